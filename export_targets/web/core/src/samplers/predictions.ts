/** What an output of the U-Net says of picture and noise. */

import { f32 } from "../numbers";
import type { SchedulerConfig } from "../scheduler_config";

/** Shares of picture and noise at a level: x = signal * picture + noise * epsilon. */
export function levels(alphaBar: number): [number, number] {
  return [f32(Math.sqrt(alphaBar)), f32(Math.sqrt(f32(1 - alphaBar)))];
}

// What one value of an output says, given x = signal * picture + noise * epsilon. From epsilon:
// arXiv 2006.11239, equation 15. From v = signal * epsilon - noise * picture: Salimans and Ho
// (arXiv 2202.00512), appendix D.

export function pictureOf(
  config: SchedulerConfig,
  x: number,
  output: number,
  signal: number,
  noise: number,
): number {
  if (config.prediction_type === "epsilon") return f32(f32(x - f32(noise * output)) / signal);
  return f32(f32(signal * x) - f32(noise * output));
}

export function epsilonOf(
  config: SchedulerConfig,
  x: number,
  output: number,
  signal: number,
  noise: number,
): number {
  if (config.prediction_type === "epsilon") return output;
  return f32(f32(signal * output) + f32(noise * x));
}

export function pictureAtSigma(
  config: SchedulerConfig,
  x: number,
  output: number,
  sigma: number,
): number {
  if (config.prediction_type === "epsilon") return f32(x - f32(sigma * output));
  const variance = f32(f32(sigma ** 2) + 1);
  return f32(f32(output * f32(-sigma / f32(Math.sqrt(variance)))) + f32(x / variance));
}

export function clipped(config: SchedulerConfig, picture: number): number {
  if (!config.clip_sample) return picture;
  const bound = config.clip_sample_range;
  return Math.min(Math.max(picture, -bound), bound);
}
