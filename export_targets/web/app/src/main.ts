/** The page: what is asked for, how far it is, the picture. */

import { encodePng, pictureTexts, type Model, type Picture, type Request } from "edgekd-core";
import type { AppFacts, Backend, FromWorker, ToWorker } from "./messages";
import { takeOver } from "./offline";

const SEEDS = 2 ** 32;
const SHOWN = 100; // characters of a prompt below its picture
const BACKENDS: readonly Backend[] = ["webgpu", "wasm"];
const TEXTS: Readonly<Record<string, string>> = {
  LICENSE: "Licence of this page",
  NOTICE: "Notice",
  "LIBRARIES.txt": "Licences of the libraries",
  "MODEL-LICENSE.txt": "Licence of the model",
  "STARTER-DATA.md": "Pictures that the model learned from",
};

function element<Kind extends HTMLElement>(id: string): Kind {
  return document.getElementById(id) as Kind;
}

const form = element<HTMLFormElement>("form");
const prompt = element<HTMLTextAreaElement>("prompt");
const seed = element<HTMLInputElement>("seed");
const steps = element<HTMLInputElement>("steps");
const guidance = element<HTMLInputElement>("guidance");
const negative = element<HTMLInputElement>("negative");
const drawButton = element<HTMLButtonElement>("draw");
const cancelButton = element<HTMLButtonElement>("cancel");
const status = element("status");
const bar = element<HTMLProgressElement>("bar");
const problem = element("problem");
const result = element("result");
const picture = element<HTMLImageElement>("picture");
const download = element<HTMLAnchorElement>("download");

let worker: Worker;
let model: Model;
let asked: Request = { prompt: "" };
let failed = false; // the model could not be opened

function send(message: ToWorker): void {
  worker.postMessage(message);
}

async function start(): Promise<void> {
  if (!(await takeOver())) return;
  worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }: MessageEvent<FromWorker>) => void receive(data);
  worker.onerror = (event) => fail(event.message || "The worker could not be started.", true);
  const wanted = wantedBackend();
  const backend = BACKENDS.find((one) => one === wanted) ?? null;
  if (wanted !== null && backend === null) {
    explain("The address may end in `?backend=webgpu` or `?backend=wasm`; another is not used.");
  }
  send({ type: "open", base: new URL("./", location.href).href, backend });
}

function wantedBackend(): string | null {
  return new URLSearchParams(location.search).get("backend");
}

async function receive(message: FromWorker): Promise<void> {
  switch (message.type) {
    case "model":
      return introduce(message.model, message.facts);
    case "progress": {
      if (failed) return; // other downloads go on for a moment
      const [done, total] = [message.done / 1e6, message.total / 1e6];
      if (message.doing === "opening") return show("Opening the model", null);
      return show(`Loading: ${done.toFixed(1)} of ${total.toFixed(1)} MB`, done / total);
    }
    case "ready": {
      const threads = message.threads === 1 ? "1 thread" : `${message.threads} threads`;
      const where = message.backend === "webgpu" ? "on the GPU" : `on the CPU, ${threads}`;
      const kept = message.kept ? " It is kept here, and works without a network." : "";
      const why = message.reason && ` The GPU is not used: ${message.reason}.`;
      const how = `${model.name}, ${model.precision}, runs ${where}.`;
      element("facts").textContent = `${how}${kept}${why}`;
      document.documentElement.dataset["backend"] = message.backend;
      return rest("Ready");
    }
    case "step":
      return show(`Step ${message.done} of ${message.calls}`, message.done / message.calls);
    case "picture":
      return present(message.picture, message.seconds);
    case "cancelled":
      return rest("Cancelled");
    case "problem":
      return fail(message.text, message.fatal);
  }
}

function introduce(opened: Model, facts: AppFacts): void {
  model = opened;
  const { generation } = model;
  element("name").textContent = model.name;
  document.title = `${model.name}: text to picture`;
  if (steps.value === "1") steps.value = String(generation.steps);
  const guides = generation.guidance_scale > 1;
  guidance.value = String(generation.guidance_scale);
  element("guided").hidden = !guides;
  element("avoided").hidden = !guides || model.guidance_width !== null;
  hint();
  // Small pictures are not blown up to more than six times their size.
  const side = `${Math.min(Math.max(6 * generation.width, 320), 640)}px`;
  document.documentElement.style.setProperty("--side", side);
  element("licence").replaceChildren(...withCode(facts.licence));
  const links = facts.licences.map((name) => {
    const link = Object.assign(document.createElement("a"), { href: `licences/${name}` });
    link.textContent = TEXTS[name] ?? name;
    const item = document.createElement("li");
    item.append(link);
    return item;
  });
  element("licences").replaceChildren(...links);
}

/** Says for how many steps the model is made where others are asked for. */
function hint(): void {
  const made = model?.generation.steps;
  const other = made !== undefined && steps.valueAsNumber !== made;
  element("hint").hidden = !other;
  element("hint").textContent = other ? `This model is made for ${countSteps(made)}.` : "";
}

function countSteps(count: number): string {
  return count === 1 ? "1 step" : `${count} steps`;
}

/** A sentence whose `names` are shown as code. */
function withCode(sentence: string): (string | HTMLElement)[] {
  return sentence.split("`").map((piece, i) => {
    if (i % 2 === 0) return piece;
    const code = document.createElement("code");
    code.textContent = piece;
    return code;
  });
}

/** @param share done; null: nobody can say */
function show(text: string, share: number | null): void {
  status.textContent = text;
  bar.hidden = false;
  if (share === null) bar.removeAttribute("value");
  else bar.value = share;
}

function rest(text: string): void {
  status.textContent = text;
  bar.hidden = true;
  drawButton.disabled = false;
  cancelButton.hidden = true;
  delete result.dataset["busy"];
}

function fail(text: string, fatal: boolean): void {
  rest(fatal ? "The model could not be opened" : "No picture");
  drawButton.disabled = fatal;
  failed ||= fatal;
  explain(text);
  element("again").hidden = !fatal;
  if (wantedBackend() === "webgpu") element("again").textContent = "Use WebAssembly";
}

function explain(text: string): void {
  element("reason").replaceChildren(...withCode(text.charAt(0).toUpperCase() + text.slice(1)));
  problem.hidden = false;
}

function ask(event: Event): void {
  event.preventDefault();
  if (drawButton.disabled) return;
  problem.hidden = true;
  drawButton.disabled = true;
  cancelButton.hidden = false;
  cancelButton.disabled = false;
  result.dataset["busy"] = "";
  show("Reading the prompt", null);
  const guides = !element("guided").hidden;
  asked = {
    prompt: prompt.value,
    seed: seed.valueAsNumber,
    steps: steps.valueAsNumber,
    ...(guides && { guidanceScale: guidance.valueAsNumber }),
    ...(negative.value && !element("avoided").hidden && { negativePrompt: negative.value }),
  };
  send({ type: "draw", request: asked });
}

async function present(drawn: Picture, seconds: number): Promise<void> {
  const png = await encodePng(drawn, pictureTexts(model, asked));
  const blob = new Blob([png], { type: "image/png" });
  URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(blob);
  picture.alt = `Picture of the prompt: ${asked.prompt}`;
  picture.width = drawn.width;
  picture.height = drawn.height;
  picture.style.aspectRatio = `${drawn.width} / ${drawn.height}`;
  picture.hidden = false;
  download.href = picture.src;
  download.download = `${model.name}-${asked.seed}.png`;
  download.hidden = false;
  delete result.dataset["empty"];
  const long = asked.prompt.length > SHOWN;
  const shown = long ? `${asked.prompt.slice(0, SHOWN).trimEnd()} …` : asked.prompt;
  element("caption").textContent =
    `${shown} (seed ${asked.seed})` +
    (drawn.cut ? `; the last ${drawn.cut} tokens did not fit` : "");
  rest(`Drawn in ${seconds.toFixed(2)} s`);
  result.dataset["seconds"] = String(seconds);
}

form.addEventListener("submit", ask);
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
element("random").addEventListener("click", () => {
  seed.value = String(Math.floor(Math.random() * SEEDS));
});
// Chunks that are there are kept.
element("again").addEventListener("click", () => {
  if (wantedBackend() === "webgpu") location.search = "?backend=wasm";
  else location.reload();
});
steps.addEventListener("input", hint);
cancelButton.addEventListener("click", () => {
  cancelButton.disabled = true;
  status.textContent = "Cancelling";
  send({ type: "cancel" });
});
void start();
