import { spacedTimesteps } from "../noise_schedule";
import { f32 } from "../numbers";
import type { SchedulerConfig } from "../scheduler_config";
import { sigmaAt, sigmaTable } from "./levels";
import { pictureAtSigma } from "./predictions";
import type { Sampler } from "./sampler";

/**
 * Euler's method: arXiv 2206.00364, algorithm 2 without churn. Ancestral: to a level below the next
 * one, then noise up to it (K. Crowson, k-diffusion, `sample_euler_ancestral`).
 */
export function euler(config: SchedulerConfig, steps: number, ancestral: boolean): Sampler {
  const timesteps = spacedTimesteps(config, steps);
  const table = sigmaTable(config);
  const last = config.final_sigmas_type === "sigma_min" ? table[0]! : 0;
  const sigmas = Float32Array.from([...timesteps.map((one) => sigmaAt(table, one)), last]);
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
