/** What the page and its worker say to one another. */

import type { Model, Picture, Request } from "edgekd-core";

/** `app.json`, beside the page: how the model is cut into chunks, and whose it is. */
export interface AppFacts {
  readonly format: number;
  /** File of the model -> the chunks that it is made of, named by their hashes. */
  readonly chunks: Readonly<Record<string, readonly string[]>>;
  readonly probe: Probe;
  /** For people. */
  readonly licence: string;
  /** Texts in `licences/`. */
  readonly licences: readonly string[];
}

/** A picture of one step, as Python drew it: what a GPU must come close to. */
export interface Probe {
  readonly prompt: string;
  readonly seed: number;
  /** Every so many pixels, in both directions, are in `pixels`. */
  readonly stride: number;
  /** RGB, rows from the top, base64. */
  readonly pixels: string;
  readonly floor_db: number;
}

export type Backend = "webgpu" | "wasm";

export type ToWorker =
  | { readonly type: "open"; readonly base: string; readonly backend: Backend | null }
  | { readonly type: "draw"; readonly request: Request }
  | { readonly type: "cancel" };

export type FromWorker =
  | { readonly type: "model"; readonly model: Model; readonly facts: AppFacts }
  | {
      readonly type: "progress";
      readonly doing: "downloading" | "opening";
      readonly done: number;
      readonly total: number;
    }
  | {
      readonly type: "ready";
      readonly backend: Backend;
      readonly threads: number;
      /** Why it is not the GPU, where there is one. */
      readonly reason: string;
      /** Whether the model stays on this device. */
      readonly kept: boolean;
    }
  | { readonly type: "step"; readonly done: number; readonly calls: number }
  | { readonly type: "picture"; readonly picture: Picture; readonly seconds: number }
  | { readonly type: "cancelled" }
  | { readonly type: "problem"; readonly text: string; readonly fatal: boolean };
