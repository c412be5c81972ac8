/**
 * What a sampler is; each does step for step what diffusers' class of the same name does.
 *
 * x: latents at one noise level; output: what the U-Net predicts for them, same length. alpha-bar:
 * share of the picture's variance left at a level (arXiv 2006.11239); sigma: standard deviation of
 * the noise over the picture's scale (Karras et al., arXiv 2206.00364).
 */

/** Fresh standard normal noise of the latents' length. */
export type Draw = () => Float32Array;

/** One session: its steps are taken once, in order. */
export interface Sampler {
  /** What the U-Net is told at each call. */
  readonly timesteps: readonly number[];
  /** Standard deviation of the latents that the session starts from. */
  readonly initialScale: number;
  /** The latents as the U-Net wants them at call `index`. */
  modelInput(x: Float32Array, index: number): Float32Array;
  /** The latents after call `index`; `draw` is called where the sampler adds noise. */
  step(output: Float32Array, x: Float32Array, index: number, draw: Draw): Float32Array;
}

/** Samplers whose latents keep the model's own variance. */
export function unscaled(timesteps: number[], step: Sampler["step"]): Sampler {
  return { timesteps, initialScale: 1, modelInput: (x) => x, step };
}
