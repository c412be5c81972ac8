/** One drawing: the pictures of one or two models from the same seeds, one model after the other. */

import { BrokenOffError, GoneError, Problem, draw } from "./api.js";
import { MAX_SEED, randomSeed, requestOf } from "./settings.js";

const TRIES = 5; // by itself, where the server says when

/** Entries without pictures, for `n` seeds from the one that is asked for, or a random one. */
export function entriesOf(settings) {
  const seed = Math.min(settings.seed ?? randomSeed(), MAX_SEED + 1 - settings.n);
  return Array.from({ length: settings.n }, (_, index) => ({
    id: newId(),
    when: Date.now() - index, // the first one is the newest, as in the drawing
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
 *   wait(problem)}, all but `wait` at once; `entry` and `model` are places
 */
export async function drawAll({ settings, cards, entries, signal, view }) {
  const first = { ...settings, seed: entries[0].settings.seed };
  for (const [model, card] of cards.entries()) {
    const body = requestOf(first, card);
    const steps = settings.steps ?? card.steps;
    const receive = async () => {
      for await (const event of draw(body, signal)) {
        if (event.seconds === undefined) view.preview(event.index, model, event);
        else await keep(event);
      }
    };
    const keep = async ({ index, blob, seconds, waited }) => {
      const picture = { model: card.id, steps, seconds, waited, blob };
      entries[index].pictures.push(picture);
      await view.finish(index, model, picture);
    };
    view.start(model);
    await patiently(receive, view.wait);
  }
}

async function patiently(receive, wait) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await receive();
    } catch (error) {
      const maySucceed = error instanceof Problem && error.retryAfter !== null;
      if (!maySucceed || tries > TRIES) throw error;
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
    worker_lost: "The process that drew this has ended.",
    shutting_down: "The server is shutting down.",
    timeout: "The pictures took longer than this server allows.",
    model_not_found: "The server does not have this model any more.",
    drawing_failed: "The model could not draw this.",
  };
  const text = texts[error.code] ?? `The server refuses this: ${error.message}.`;
  return { text, again: error.status >= 429 || error.status === 200 };
}
