/** One drawing: the pictures of one or two models from the same seeds, one model after the other. */

import { BrokenOffError, GoneError, Problem, draw } from "./api.js";
import { MAX_SEED, randomSeed, requestOf } from "./settings.js";

const TRIES = 5; // by itself, where the server says when
const CRASHES = 2; // as many more times: what is drawn may be what ends the process

/** Entries without pictures, for `n` seeds from the one that is asked for, or a random one. */
export function entriesOf(settings) {
  const seed = Math.min(settings.seed ?? randomSeed(), MAX_SEED + 1 - settings.n);
  const now = Date.now();
  return Array.from({ length: settings.n }, (_, index) => ({
    id: newId(),
    when: now - index, // the first one is the newest, as in the drawing
    settings: { ...settings, n: 1, seed: seed + index },
    pictures: [],
  }));
}

// `crypto.randomUUID` is not there on pages without TLS.
const newId = () =>
  [...crypto.getRandomValues(new Uint32Array(4))].map((one) => one.toString(36)).join("-");

/**
 * Draw; pictures go into the entries as they come.
 * @param view {start(model), preview(entry, model, event), finish(entry, model, picture),
 *   wait(model, problem)}, all but `wait` at once; `entry` and `model` are places
 */
export async function drawAll({ settings, cards, entries, signal, view }) {
  for (const [model, card] of cards.entries()) {
    const isThere = (entry) => entry.pictures.some((one) => one.model === card.id);
    const receive = async () => {
      view.start(model);
      // After a pause, from the first picture that is missing to the last one.
      const missing = entries.flatMap((entry, place) => (isThere(entry) ? [] : [place]));
      const [begin] = missing;
      const { seed } = entries[begin].settings;
      const n = missing[missing.length - 1] + 1 - begin;
      for await (const event of draw(requestOf({ ...settings, seed, n }, card), signal)) {
        const place = begin + event.index;
        if (isThere(entries[place])) continue;
        if (event.seconds === undefined) view.preview(place, model, event);
        else await keep(place, event);
      }
    };
    const keep = async (place, { blob, seconds, waited }) => {
      const picture = { model: card.id, seconds, waited, blob, ...chosenFor(settings, card) };
      entries[place].pictures.push(picture);
      await view.finish(place, model, picture);
    };
    await patiently(receive, (problem) => view.wait(model, problem));
  }
}

/** What a model draws with: the person's choice, or else its own. */
const chosenFor = (settings, card) => ({
  steps: settings.steps ?? card.steps,
  guidance_scale: settings.guidance_scale ?? card.guidance_scale,
  size: settings.size === "auto" ? card.size : settings.size,
  sampler: card.sampler,
});

async function patiently(receive, wait) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await receive();
    } catch (error) {
      const maySucceed = error instanceof Problem && error.retryAfter !== null;
      const most = error.code === "worker_lost" ? CRASHES : TRIES;
      if (!maySucceed || tries > most) throw error;
      await wait(error);
    }
  }
}

/** What to tell a person of an error: {text, again: whether the same may succeed later}. */
export function explain(error) {
  if (error instanceof GoneError) {
    return { text: "The server does not answer.", again: true };
  }
  if (error instanceof BrokenOffError) {
    return { text: "The connection has ended before the pictures were there.", again: true };
  }
  if (!(error instanceof Problem)) {
    return { text: `This page has a defect: ${error.message}`, again: true };
  }
  const texts = {
    queue_full: "The server's queue is full.",
    worker_lost: "The server's drawing program has crashed and is started again.",
    shutting_down: "The server is shutting down.",
    timeout: "The pictures took longer than this server allows.",
    model_not_found: "The server does not have this model any more.",
    drawing_failed: "The model could not draw this.",
  };
  const text = texts[error.code] ?? `The server refuses this: ${error.message}.`;
  return { text, again: error.status >= 429 || error.status === 200 };
}
