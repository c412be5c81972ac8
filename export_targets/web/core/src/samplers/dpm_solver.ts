import { multistepTimesteps } from "../noise_schedule";
import { f32 } from "../numbers";
import type { SchedulerConfig } from "../scheduler_config";
import { sigmaAt, sigmaTable } from "./levels";
import { pictureOf } from "./predictions";
import { unscaled, type Sampler } from "./sampler";

const FEW = 15; // steps, below which the end is of lower order

/**
 * Lu et al., "DPM-Solver++" (arXiv 2211.01095), multistep of the first and second order (algorithm
 * 2), on levels x = alpha * picture + sigma * epsilon of unit variance.
 */
export function dpmSolver(config: SchedulerConfig, steps: number): Sampler {
  const timesteps = multistepTimesteps(config, steps);
  const table = sigmaTable(config);
  const last = config.final_sigmas_type === "sigma_min" ? table[0]! : 0;
  const sigmas = [...timesteps.map((one) => sigmaAt(table, one)), last].map(f32);
  const alpha = sigmas.map((sigma) => 1 / Math.sqrt(sigma ** 2 + 1));
  const sigma = sigmas.map((one, i) => one * alpha[i]!);
  const lambdas = sigmas.map((one) => -Math.log(one)); // infinite at the picture itself
  let before: Float32Array | null = null; // the picture that the last step predicted
  return unscaled(timesteps, (output, x, index) => {
    const [signal, noise] = [f32(alpha[index]!), f32(sigma[index]!)];
    const picture = x.map((value, i) => pictureOf(config, value, output[i]!, signal, noise));
    const h = lambdas[index + 1]! - lambdas[index]!;
    const ofX = f32(sigma[index + 1]! / sigma[index]!);
    const gain = alpha[index + 1]! * -Math.expm1(-h);
    let [ofNew, ofOld] = [gain, 0];
    if (order(config, index, steps) === 2) {
      const midpoint = config.solver_type === "midpoint";
      const first = midpoint ? gain / 2 : alpha[index + 1]! * (Math.expm1(-h) / h + 1);
      const ratio = (lambdas[index]! - lambdas[index - 1]!) / h;
      [ofNew, ofOld] = [gain + first / ratio, -first / ratio];
    }
    const [newest, older] = [f32(ofNew), f32(ofOld)];
    const known = before ?? picture;
    before = picture;
    return x.map((value, i) => f32(ofX * value) + f32(newest * picture[i]!) + older * known[i]!);
  });
}

/** Of step `index`: an earlier picture must be there, and the end is of the first order. */
function order(config: SchedulerConfig, index: number, steps: number): number {
  const few = config.lower_order_final && steps < FEW;
  const ends = few || config.euler_at_final || config.final_sigmas_type === "zero";
  return index === steps - 1 && ends ? 1 : Math.min(config.solver_order, index + 1);
}
