/** Samplers of consistency students, on the timesteps of their distillation. */

import { alphasCumprod, checkSteps } from "../noise_schedule";
import { f32 } from "../numbers";
import type { SchedulerConfig } from "../scheduler_config";
import { moved } from "./ddim";
import { clipped, levels, pictureOf } from "./predictions";
import { unscaled, type Sampler } from "./sampler";

/**
 * Luo et al., "Latent Consistency Models" (arXiv 2310.04378), algorithm 3: after each step but the
 * last, fresh noise leads to the next level.
 */
export function lcm(config: SchedulerConfig, steps: number): Sampler {
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
export function tcd(config: SchedulerConfig, steps: number): Sampler {
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
