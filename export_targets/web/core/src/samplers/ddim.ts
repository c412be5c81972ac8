import { alphasCumprod, roundedTimesteps } from "../noise_schedule";
import type { SchedulerConfig } from "../scheduler_config";
import { clipped, epsilonOf, levels, pictureOf } from "./predictions";
import { unscaled, type Sampler } from "./sampler";

/** Song et al., "Denoising Diffusion Implicit Models" (arXiv 2010.02502), equation 12, eta 0. */
export function ddim(config: SchedulerConfig, steps: number): Sampler {
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
export function moved(
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
