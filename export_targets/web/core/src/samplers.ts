/**
 * The samplers that students are drawn with, step for step what diffusers' classes of the same
 * names do.
 *
 * x: latents at one noise level; output: what the U-Net predicts for them, same length. alpha-bar:
 * share of the picture's variance left at a level (arXiv 2006.11239); sigma: standard deviation of
 * the noise over the picture's scale (Karras et al., arXiv 2206.00364).
 */

import { alphasCumprod, checkSteps, roundedTimesteps, spacedTimesteps } from "./noise_schedule";
import { f32 } from "./numbers";
import type { SamplerName, SchedulerConfig } from "./scheduler_config";

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

/** A session of `steps` steps. */
export function makeSampler(config: SchedulerConfig, steps: number): Sampler {
  return MAKERS[config.name](config, steps);
}

const MAKERS: Record<SamplerName, (config: SchedulerConfig, steps: number) => Sampler> = {
  DDIMScheduler: ddim,
  EulerDiscreteScheduler: (config, steps) => euler(config, steps, false),
  EulerAncestralDiscreteScheduler: (config, steps) => euler(config, steps, true),
  LCMScheduler: lcm,
  TCDScheduler: tcd,
};

/** Song et al., "Denoising Diffusion Implicit Models" (arXiv 2010.02502), equation 12, eta 0. */
function ddim(config: SchedulerConfig, steps: number): Sampler {
  const timesteps = roundedTimesteps(config, steps);
  const table = alphasCumprod(config);
  const stride = Math.floor(config.num_train_timesteps / steps);
  const last = config.set_alpha_to_one ? 1 : table[0]!;
  return unscaled(timesteps, (output, x, index) => {
    const alphaBar = table[timesteps[index]!]!;
    const previous = timesteps[index]! - stride;
    return moved(config, x, output, alphaBar, previous >= 0 ? table[previous]! : last);
  });
}

/** From one level of the variance-preserving process to another, by what the output implies. */
function moved(
  config: SchedulerConfig,
  x: Float32Array,
  output: Float32Array,
  alphaBar: number,
  following: number,
): Float32Array {
  const [signal, noise] = levels(alphaBar);
  const [toSignal, toNoise] = levels(following);
  return x.map((value, i) => {
    const picture = clipped(config, pictureOf(config, value, output[i]!, signal, noise));
    return toSignal * picture + toNoise * epsilonOf(config, value, output[i]!, signal, noise);
  });
}

/**
 * Luo et al., "Latent Consistency Models" (arXiv 2310.04378), algorithm 3: after each step but the
 * last, fresh noise leads to the next level.
 */
function lcm(config: SchedulerConfig, steps: number): Sampler {
  const timesteps = distilledTimesteps(config, steps);
  const table = alphasCumprod(config);
  return unscaled(timesteps, (output, x, index, draw) => {
    const [signal, noise] = levels(table[timesteps[index]!]!);
    // Song et al., "Consistency Models" (arXiv 2303.01469), appendix C, on scaled timesteps.
    const scaled = timesteps[index]! * config.timestep_scaling;
    const norm = scaled ** 2 + 0.25;
    const [skip, out] = [f32(0.25 / norm), f32(scaled / norm ** 0.5)];
    const denoised = x.map((value, i) => {
      const picture = clipped(config, pictureOf(config, value, output[i]!, signal, noise));
      return out * picture + skip * value;
    });
    if (index === timesteps.length - 1) return denoised;
    const [toSignal, toNoise] = levels(table[timesteps[index + 1]!]!);
    const fresh = draw();
    return denoised.map((value, i) => toSignal * value + toNoise * fresh[i]!);
  });
}

/**
 * Zheng et al., "Trajectory Consistency Distillation" (arXiv 2402.19159), algorithm 4 with gamma 0:
 * each step ends where the next begins.
 */
function tcd(config: SchedulerConfig, steps: number): Sampler {
  const timesteps = distilledTimesteps(config, steps);
  const table = alphasCumprod(config);
  return unscaled(timesteps, (output, x, index) =>
    moved(config, x, output, table[timesteps[index]!]!, table[timesteps[index + 1] ?? 0]!),
  );
}

/** Evenly among the timesteps that the student was distilled on. */
function distilledTimesteps(config: SchedulerConfig, steps: number): number[] {
  const original = config.original_inference_steps;
  checkSteps(steps, original, "original_inference_steps=");
  const stride = Math.floor(config.num_train_timesteps / original);
  return Array.from({ length: steps }, (_, i) => {
    const from = Math.floor(i * (original / steps));
    return (original - from) * stride - 1;
  });
}

/**
 * Euler's method: arXiv 2206.00364, algorithm 2 without churn. Ancestral: to a level below the next
 * one, then noise up to it (K. Crowson, k-diffusion, `sample_euler_ancestral`).
 */
function euler(config: SchedulerConfig, steps: number, ancestral: boolean): Sampler {
  const timesteps = spacedTimesteps(config, steps);
  const table = sigmaTable(config);
  const last = config.final_sigmas_type === "sigma_min" ? table[0]! : 0;
  const sigmas = Float32Array.from([...timesteps.map((one) => between(table, one)), last]);
  const largest = sigmas.reduce((one, other) => Math.max(one, other));
  // `leading` starts below the last level, where the picture's own variance still shows.
  const leading = config.timestep_spacing === "leading";
  return {
    timesteps,
    initialScale: leading ? f32(Math.sqrt(f32(f32(largest ** 2) + 1))) : largest,
    modelInput(x, index) {
      const scale = f32(Math.sqrt(f32(f32(sigmas[index]! ** 2) + 1)));
      return x.map((value) => value / scale);
    },
    step(output, x, index, draw) {
      const [sigma, following] = [sigmas[index]!, sigmas[index + 1]!];
      const up = ancestral
        ? f32(Math.sqrt((following ** 2 * (sigma ** 2 - following ** 2)) / sigma ** 2))
        : 0;
      const target = ancestral ? f32(Math.sqrt(following ** 2 - up ** 2)) : following;
      const length = f32(target - sigma);
      const down = x.map((value, i) => {
        const slope = f32(value - pictureAtSigma(config, value, output[i]!, sigma)) / sigma;
        return value + f32(f32(slope) * length);
      });
      if (!ancestral) return down;
      // Drawn at the last step too, times zero: the generator's state is part of the result.
      const fresh = draw();
      return down.map((value, i) => value + f32(fresh[i]! * up));
    },
  };
}

/** sigma of every training timestep [T], rising. */
function sigmaTable(config: SchedulerConfig): Float32Array {
  const table = alphasCumprod(config);
  // All but zero: the first sigma must not be infinite.
  if (config.rescale_betas_zero_snr) table[table.length - 1] = 2 ** -24;
  return table.map((value) => Math.sqrt(f32(f32(1 - value) / value)));
}

/** The level of a fractional timestep. */
function between(table: Float32Array, timestep: number): number {
  const below = Math.min(Math.floor(timestep), table.length - 2);
  const [low, high] = [table[below]!, table[below + 1]!];
  return low + (high - low) * (timestep - below);
}

/** Samplers whose latents keep the model's own variance. */
function unscaled(timesteps: number[], step: Sampler["step"]): Sampler {
  return { timesteps, initialScale: 1, modelInput: (x) => x, step };
}

/** Shares of picture and noise at a level: x = signal * picture + noise * epsilon. */
function levels(alphaBar: number): [number, number] {
  return [f32(Math.sqrt(alphaBar)), f32(Math.sqrt(f32(1 - alphaBar)))];
}

// What one value of an output says, given x = signal * picture + noise * epsilon. From epsilon:
// arXiv 2006.11239, equation 15. From v = signal * epsilon - noise * picture: Salimans and Ho
// (arXiv 2202.00512), appendix D.

function pictureOf(
  config: SchedulerConfig,
  x: number,
  output: number,
  signal: number,
  noise: number,
): number {
  if (config.prediction_type === "epsilon") return f32(f32(x - f32(noise * output)) / signal);
  return f32(f32(signal * x) - f32(noise * output));
}

function epsilonOf(
  config: SchedulerConfig,
  x: number,
  output: number,
  signal: number,
  noise: number,
): number {
  if (config.prediction_type === "epsilon") return output;
  return f32(f32(signal * output) + f32(noise * x));
}

function pictureAtSigma(
  config: SchedulerConfig,
  x: number,
  output: number,
  sigma: number,
): number {
  if (config.prediction_type === "epsilon") return f32(x - f32(sigma * output));
  const variance = f32(f32(sigma ** 2) + 1);
  return f32(f32(output * f32(-sigma / f32(Math.sqrt(variance)))) + f32(x / variance));
}

function clipped(config: SchedulerConfig, picture: number): number {
  if (!config.clip_sample) return picture;
  const bound = config.clip_sample_range;
  return Math.min(Math.max(picture, -bound), bound);
}
