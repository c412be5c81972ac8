/** Downloads, opens and runs the model, so that the page never waits. */

import {
  Cancelled,
  InputError,
  openPipeline,
  parseModel,
  type Model,
  type Pipeline,
  type Request,
} from "edgekd-core";
import type { AppFacts, Backend, FromWorker, ToWorker } from "./messages";
import { checkPicture } from "./probe";
import { findGpu, hasGpu, openRuntime } from "./runtime";
import { ModelStore, openCache, OWNER } from "./store";

interface Opened {
  readonly pipeline: Pipeline;
  readonly backend: Backend;
}

let opened: Opened | null = null;
let base = "";
let cancel = new AbortController();

self.onmessage = async ({ data }: MessageEvent<ToWorker>) => {
  if (data.type === "cancel") {
    cancel.abort();
    return;
  }
  try {
    if (data.type === "open") {
      base = data.base;
      opened = await open(data.backend);
    } else {
      await draw(data.request);
    }
  } catch (error) {
    if (error instanceof Cancelled) tell({ type: "cancelled" });
    else tell({ type: "problem", text: said(error), fatal: data.type === "open" });
  }
};

function tell(message: FromWorker): void {
  self.postMessage(message);
}

function said(error: unknown): string {
  if (error instanceof InputError) return error.message;
  return `This browser could not run the model: ${(error as Error)?.message ?? error}`;
}

async function open(wanted: Backend | null): Promise<Opened> {
  if (!globalThis.crypto?.subtle) {
    const rule = "this page must be opened over https, or from localhost";
    throw new InputError(rule, location.origin);
  }
  const [model, facts] = await describe();
  tell({ type: "model", model, facts });
  const cache = await openCache(base);
  const told = counter(model, facts);
  const store = new ModelStore(`${base}model/`, model, facts, cache, told.onBytes, told.onFile);
  if (wanted === "webgpu" && !(await findGpu())) {
    throw new InputError("`?backend=webgpu` needs a browser with WebGPU and a GPU", "none here");
  }
  const first = wanted ?? ((await hasGpu()) ? "webgpu" : "wasm");
  if (first === "wasm") return openOn("wasm", "", model, facts, store);
  try {
    return await openOn("webgpu", "", model, facts, store);
  } catch (error) {
    if (wanted) throw error;
    // A GPU that cannot run the model, or draws something else, is no reason to give up.
    return openOn("wasm", said(error), model, facts, store);
  }
}

async function openOn(
  backend: Backend,
  reason: string,
  model: Model,
  facts: AppFacts,
  store: ModelStore,
): Promise<Opened> {
  const { ort, threads, options } = await openRuntime(backend);
  const pipeline = await openPipeline(ort, model, store, options);
  if (backend === "webgpu") await checkPicture(pipeline, facts.probe);
  await store.tidy();
  tell({ type: "ready", backend, threads, reason, kept: store.kept });
  return { pipeline, backend };
}

interface Counter {
  onBytes(count: number): void;
  onFile(): void;
}

/** Tells how much of the model is there, a hundred times at most, and when a part is opened. */
function counter(model: Model, facts: AppFacts): Counter {
  const total = Object.keys(facts.chunks).reduce(
    (sum, path) => sum + (model.files[path]?.bytes ?? 0),
    0,
  );
  let [done, shown] = [0, 0];
  return {
    onBytes: (count) => {
      done = Math.min(done + count, total);
      if (done < total && done - shown < total / 100) return;
      shown = done;
      tell({ type: "progress", doing: done < total ? "downloading" : "opening", done, total });
    },
    onFile: () => tell({ type: "progress", doing: "opening", done, total }),
  };
}

async function describe(): Promise<[Model, AppFacts]> {
  const [model, facts] = await Promise.all([text("model/model.json"), text("app.json")]);
  return [parseModel(model, OWNER), parseFacts(facts)];
}

function parseFacts(text: string): AppFacts {
  try {
    const facts = JSON.parse(text) as AppFacts;
    if (facts.format === 1 && Object.values(facts.chunks).every(Array.isArray)) return facts;
  } catch {
    // Said below.
  }
  throw new InputError("`app.json` must be as edgekd writes it", "something else", OWNER);
}

async function text(path: string): Promise<string> {
  let response: Response;
  try {
    response = await fetch(base + path);
  } catch {
    throw new InputError(`\`${path}\` must be reachable`, "no network", "Try again later.");
  }
  if (!response.ok) {
    throw new InputError(`\`${path}\` must be there`, `status ${response.status}`, OWNER);
  }
  return response.text();
}

async function draw(request: Request): Promise<void> {
  if (!opened) throw new InputError("the model must be open", "it is not");
  cancel = new AbortController();
  const { signal } = cancel;
  const onStep = (done: number, calls: number) => tell({ type: "step", done, calls });
  const begun = performance.now();
  try {
    const picture = await opened.pipeline.generate(request, { onStep, signal });
    tell({ type: "picture", picture, seconds: (performance.now() - begun) / 1000 });
  } catch (error) {
    // Half precision overflows on some GPUs; the CPU has more room.
    if (opened.backend === "wasm" || error instanceof Cancelled) throw error;
    opened = await open("wasm");
    await draw(request);
  }
}
