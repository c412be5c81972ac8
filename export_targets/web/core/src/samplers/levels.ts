/** The noise levels sigma of training timesteps. */

import { alphasCumprod } from "../noise_schedule";
import { f32 } from "../numbers";
import type { SchedulerConfig } from "../scheduler_config";

/** sigma of every training timestep [T], rising. */
export function sigmaTable(config: SchedulerConfig): Float32Array {
  const table = alphasCumprod(config);
  // All but zero: the first sigma must not be infinite.
  if (config.rescale_betas_zero_snr) table[table.length - 1] = 2 ** -24;
  return table.map((value) => Math.sqrt(f32(f32(1 - value) / value)));
}

/** The level of a fractional timestep. */
export function sigmaAt(table: Float32Array, timestep: number): number {
  const below = Math.min(Math.floor(timestep), table.length - 2);
  const [low, high] = [table[below]!, table[below + 1]!];
  return low + (high - low) * (timestep - below);
}
