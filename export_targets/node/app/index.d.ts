/** A bundle of edgekd for Node: prompts to pictures with onnxruntime-node. */

import type { ModelSummary, Picture, Request, Watcher } from "./types.js";

export type { Generation, ModelSummary, Picture, Request, Watcher } from "./types.js";

/** What a user or a bundle got wrong, in one sentence. */
export class InputError extends Error {}

/** Drawing was called off through its signal. */
export class Cancelled extends Error {}

export interface Options {
  /** A folder with a `model.json`; left out: the bundle's own. */
  readonly folder?: string;
  /** Threads inside an operator; left out: onnxruntime's choice. */
  readonly threads?: number;
}

export interface Pipeline {
  readonly model: ModelSummary;
  generate(request: Request, watcher?: Watcher): Promise<Picture>;
}

/** Opens the model; every file of it is compared with its hash first. */
export function open(options?: Options): Promise<Pipeline>;

/** What draws a picture again, for its PNG file; the prompt is not in it. */
export function pictureTexts(model: ModelSummary, request: Request): Record<string, string>;

/** A PNG file; `texts` are written into it by keyword. */
export function encodePng(picture: Picture, texts?: Record<string, string>): Promise<Uint8Array>;
