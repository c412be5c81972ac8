/** What apps ask for and are given. The Node bundle publishes this file as it is: types alone. */

/** How pictures are drawn, as the student was trained; sides in pixels. */
export interface Generation {
  readonly steps: number;
  readonly guidance_scale: number;
  readonly height: number;
  readonly width: number;
}

/** What an app shows of a model. */
export interface ModelSummary {
  readonly name: string;
  readonly precision: string;
  /** null: nobody said. */
  readonly licence: string | null;
  readonly generation: Generation;
  /** Its class in diffusers. */
  readonly scheduler: { readonly name: string };
}

/** What to draw; everything but the prompt has the model's own value where it is left out. */
export interface Request {
  readonly prompt: string;
  readonly negativePrompt?: string;
  /** Left out: 0. */
  readonly seed?: number | bigint;
  readonly steps?: number;
  /** Above 1 the U-Net runs twice a step, unless it was distilled with its guidance. */
  readonly guidanceScale?: number;
  readonly width?: number;
  readonly height?: number;
}

export interface Watcher {
  /** Called after each call of the U-Net. */
  onStep?(done: number, calls: number): void;
  /** Ends the drawing with `Cancelled` before the next call of a part. */
  readonly signal?: AbortSignal;
}

/** RGB, 8 bits, rows from the top. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint8Array;
  /** Tokens of the prompt that did not fit. */
  readonly cut: number;
}
