/** What the page asks of the server, and how that fails. */

import { readEvents } from "./events.js";

const TOKEN = "edgekd-token";
const PREVIEWS = 3; // the most that the API gives
const RESTART_S = 2; // of a worker

/** An answer that is an error: {message, status, code, param, retryAfter in seconds or null}. */
export class Problem extends Error {
  constructor(status, error, retryAfter = null) {
    super(error.message);
    Object.assign(this, { status, code: error.code, param: error.param, retryAfter });
  }
}

/** The server does not answer. */
export class GoneError extends Error {}

/** Its answer has ended before the pictures were there. */
export class BrokenOffError extends Error {}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (text) => sessionStorage.setItem(TOKEN, text),
  forget: () => sessionStorage.removeItem(TOKEN),
};

/** @returns {Promise<Response>} with a status of success */
async function ask(path, options = {}) {
  const known = token.get();
  const headers = { ...options.headers, ...(known && { Authorization: `Bearer ${known}` }) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    throw error.name === "AbortError" ? error : new GoneError();
  }
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}

async function problemOf(answer) {
  const after = Number.parseInt(answer.headers.get("Retry-After") ?? "", 10);
  let error = { message: `The server answers with status ${answer.status}.`, code: null };
  try {
    error = (await answer.json()).error ?? error;
  } catch {
    // A proxy's page: its status says enough.
  }
  return new Problem(answer.status, error, Number.isNaN(after) ? null : after);
}

export const description = async () => (await ask("openapi.json")).json();

export const models = async () => (await (await ask("v1/models")).json()).data;

/** Whether the server can draw. */
export async function isUp() {
  try {
    await ask("readyz");
    return true;
  } catch {
    return false;
  }
}

/**
 * Yields {index, blob, step, steps} for previews and {index, blob, seconds, waited, seed} for
 * pictures.
 */
export async function* draw(body, signal) {
  const answer = await ask("v1/images/generations", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, partial_images: PREVIEWS }),
    signal,
  });
  let left = body.n;
  try {
    for await (const event of readEvents(answer.body)) {
      const data = JSON.parse(event.data);
      if (event.name === "error") throw problemIn(data.error);
      const blob = decode(data.b64_json, `image/${data.output_format}`);
      if (event.name === "image_generation.completed") {
        left -= 1;
        const { index, seed, drawn_s: seconds, waited_s: waited } = data;
        yield { index, blob, seed, seconds, waited };
      } else {
        yield { index: data.index, blob, step: data.step, steps: data.steps };
      }
    }
  } catch (error) {
    throw error instanceof Problem || error.name === "AbortError" ? error : new BrokenOffError();
  }
  if (left > 0) throw new BrokenOffError();
}

/** An error in the midst of a stream, which has no headers that would say when to ask again. */
const problemIn = (error) =>
  new Problem(200, error, error.code === "worker_lost" ? RESTART_S : null);

function decode(base64, type) {
  return new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type });
}
