/** A bundle of edgekd for Node: prompts to pictures with onnxruntime-node. */

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

/** What is left out has the model's own value; the seed's is 0. */
export interface Request {
  readonly prompt: string;
  readonly negativePrompt?: string;
  readonly seed?: number | bigint;
  readonly steps?: number;
  readonly guidanceScale?: number;
  readonly width?: number;
  readonly height?: number;
}

export interface Watcher {
  /** Called after each call of the U-Net. */
  onStep?(done: number, calls: number): void;
  /** Ends the drawing with `Cancelled`. */
  readonly signal?: AbortSignal;
}

/** RGB, 8 bits, rows from the top; `cut`: tokens of the prompt that did not fit. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint8Array;
  readonly cut: number;
}

export interface Pipeline {
  readonly model: {
    readonly name: string;
    readonly precision: string;
    readonly licence: string | null;
    readonly generation: {
      readonly steps: number;
      readonly guidance_scale: number;
      readonly width: number;
      readonly height: number;
    };
  };
  generate(request: Request, watcher?: Watcher): Promise<Picture>;
}

/** Opens the model; every file of it is compared with its hash first. */
export function open(options?: Options): Promise<Pipeline>;

/** What draws a picture again, for its PNG file; the prompt is not in it. */
export function pictureTexts(model: Pipeline["model"], request: Request): Record<string, string>;

/** A PNG file; `texts` are written into it by keyword. */
export function encodePng(picture: Picture, texts?: Record<string, string>): Promise<Uint8Array>;
