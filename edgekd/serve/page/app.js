/** The page: what happens when. */

import { BrokenOffError, GoneError, Problem, isUp, models, token } from "./api.js";
import { offerDescription } from "./description.js";
import { byId } from "./dom.js";
import { drawAll, entriesOf, explain } from "./drawing.js";
import { Form } from "./form.js";
import { Gallery } from "./gallery.js";
import { Notice } from "./notice.js";
import { MAX_SEED, fromLink, linkTo } from "./settings.js";
import { showSpeed } from "./speed.js";
import { Stage } from "./stage.js";
import { Store } from "./store.js";
import { count, median, relation, seconds } from "./text.js";
import { askForToken } from "./tokens.js";
import { Viewer } from "./viewer.js";

const VARIATIONS = 4;
const REMEMBERED = 32; // entries whose times are compared
const LONGEST_PAUSE_MS = 15_000; // between questions whether the server is back

const notice = new Notice();
let running = null; // AbortController of the drawing
let waitsForServer = false;
let drawn = []; // entries since the server is known
const form = new Form({
  draw,
  cancel,
  share: () => share(form.read()),
  chosen: (cards) => running || stage.invite(cards),
});
const actions = { open, vary, use, share: ({ settings }) => share(settings), remove, removed };
const stage = new Stage(byId("stage"), actions);
const gallery = new Gallery(await openStore(), actions);
const viewer = new Viewer(() => gallery.entries, actions);

async function openStore() {
  try {
    return await Store.open();
  } catch {
    return null;
  }
}

const tell = (text) => {
  byId("status").textContent = text;
};

/** Learn the models; false: the server did not tell, and the notice says why. */
async function loadModels() {
  try {
    const cards = await models();
    form.offer(cards);
    showSpeed(cards, drawn);
    byId("forget").hidden = token.get() === null;
    return true;
  } catch (error) {
    await failed(error, start);
    return false;
  }
}

async function start() {
  notice.hide();
  if (await loadModels()) readLink();
}

function readLink() {
  const settings = fromLink(location.hash);
  if (settings === null) return;
  const missing = form.write(settings);
  if (missing.length) {
    notice.show(`This server has no model ${missing.join(" or ")}: another one is chosen.`);
  }
}

async function draw() {
  if (running || !form.check()) return;
  if (form.chosen().length === 0) return void start(); // no model is known yet
  const settings = form.read();
  const cards = form.chosen();
  const entries = entriesOf(settings);
  running = new AbortController();
  notice.hide();
  form.busy(true);
  const names = cards.map((card) => card.id).join(", then ");
  tell(`Drawing ${count(settings.n, "picture")} with ${names}.`);
  stage.begin(entries, cards, cards.map((card) => settings.steps ?? card.steps));
  if (matchMedia("(max-width: 860px)").matches) byId("now-title").scrollIntoView();
  let error = null;
  try {
    await drawAll({ settings, cards, entries, signal: running.signal, view: viewOf(entries) });
  } catch (problem) {
    error = problem;
  }
  stage.end();
  if (error === null || error.name === "AbortError") stage.invite(cards);
  running = null;
  form.busy(false);
  drawn = [...drawn, ...entries].slice(-REMEMBERED);
  tell(summary(entries, error));
  if (error === null) await refresh();
  else if (error.name !== "AbortError") await failed(error, draw);
}

function viewOf(entries) {
  const { signal } = running;
  return {
    start: (model) => stage.start(model),
    preview: (entry, model, event) => stage.preview(entry, model, event),
    finish: async (entry, model, picture) => {
      stage.finish(entry, model, picture);
      await gallery.keep(entries[entry]);
    },
    wait: (model, problem) => {
      stage.pause(model);
      return notice.countDown(explain(problem).text, problem.retryAfter, signal);
    },
  };
}

function cancel() {
  running?.abort();
}

/** Times have changed by what was drawn. */
async function refresh() {
  try {
    showSpeed(await models(), drawn);
  } catch {
    // The next drawing will say what is wrong.
  }
}

function summary(entries, error) {
  const found = new Map();
  for (const { model, seconds: time } of entries.flatMap((entry) => entry.pictures)) {
    found.set(model, [...(found.get(model) ?? []), time]);
  }
  if (error) {
    const number = entries.flatMap((entry) => entry.pictures).length;
    const what = error.name === "AbortError" ? "Cancelled" : "Stopped";
    return `${what}; ${number ? count(number, "picture") : "no picture"} drawn.`;
  }
  const [[first, firstTime], other] = [...found].map(([model, all]) => [model, median(all)]);
  const number = entries.length;
  if (!other) {
    const each = number > 1 ? " each" : "";
    return `${count(number, "picture")} by ${first} in ${seconds(firstTime)}${each}.`;
  }
  const [second, secondTime] = other;
  return (
    `${first} took ${seconds(firstTime)} a picture, ${second} ${seconds(secondTime)}: ` +
    `${first} ${relation(firstTime, secondTime)} ${second}.`
  );
}

/** Say what went wrong, and offer what helps. */
async function failed(error, again) {
  if (error instanceof Problem && error.status === 401) return void (await enterToken(again));
  const { text, again: maySucceed } = explain(error);
  const mayBeGone = error instanceof BrokenOffError || error.code === "shutting_down";
  if (error instanceof GoneError || (mayBeGone && !(await isUp()))) {
    notice.show(`${text} This page looks for it.`, [["Try now", again]]);
    return void waitForServer();
  }
  if (error instanceof Problem && form.blame(error.param, `${error.message}.`)) {
    if (error.code === "model_not_found") await loadModels();
    return;
  }
  notice.show(text, maySucceed ? [["Try again", again]] : []);
}

async function enterToken(again) {
  if (await askForToken(isAccepted)) return again();
  notice.show("This server asks for a token.", [["Enter it", again]]);
}

async function isAccepted() {
  try {
    await models();
    return true;
  } catch (error) {
    return !(error instanceof Problem && error.status === 401);
  }
}

async function waitForServer() {
  if (waitsForServer) return;
  waitsForServer = true;
  for (let pause = 1000; !(await isUp()); pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
  waitsForServer = false;
  notice.hide();
  drawn = []; // it may be another one
  if (!running && (await loadModels())) tell("The server is there again.");
}

function open(entry) {
  viewer.open(entry);
}

/** More pictures from the seeds behind this one's, by its first model, which is the fast one. */
function vary({ settings }) {
  if (running) return tell("A drawing is under way: wait for it, or cancel it.");
  const seed = settings.seed + VARIATIONS > MAX_SEED ? 0 : settings.seed + 1;
  const n = Math.min(VARIATIONS, Number(byId("n").max));
  use({ settings: { ...settings, seed, n, compare: "" } });
  draw();
}

function use({ settings }) {
  const missing = form.write(settings);
  if (missing.length) notice.show(`This server has no model ${missing.join(" or ")} any more.`);
  byId("prompt").focus({ preventScroll: true });
}

async function share(settings) {
  const address = linkTo(settings);
  history.replaceState(null, "", address);
  try {
    await navigator.clipboard.writeText(address);
    tell("The link is copied.");
  } catch {
    tell("This page's address is the link now: copy it."); // without TLS there is no clipboard
  }
}

function remove(entry) {
  gallery.remove(entry);
}

function removed(entry) {
  stage.remove(entry.id);
}

byId("forget").onclick = () => {
  token.forget();
  location.reload();
};
offerDescription((error) => failed(error, () => (byId("api").open = true)));
addEventListener("hashchange", readLink);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) cancel();
});

await gallery.load();
await start();
