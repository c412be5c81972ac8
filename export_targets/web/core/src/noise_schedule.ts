/**
 * How much noise each training timestep adds, and which timesteps a session visits.
 *
 * T training timesteps, S steps of a session. Computed in single precision where torch does, with
 * the cumulative product in double.
 */

import { InputError } from "./errors";
import { f32, linspace, roundEven } from "./numbers";
import type { SchedulerConfig } from "./scheduler_config";

/** The products alpha-bar [T] of Ho et al. (arXiv 2006.11239, equation 4). */
export function alphasCumprod(config: SchedulerConfig): Float32Array {
  const count = config.num_train_timesteps;
  const betas =
    config.beta_schedule === "linear"
      ? evenly(config.beta_start, config.beta_end, count)
      : // scaled_linear: linear in the square root, as latent diffusion models are trained
        evenly(config.beta_start ** 0.5, config.beta_end ** 0.5, count).map((root) => root * root);
  const products = cumprod(betas.map((beta) => 1 - beta));
  return config.rescale_betas_zero_snr ? zeroTerminalSnr(products) : products;
}

/** From both ends to the middle, each value rounded once, as torch's vector code does. */
function evenly(start: number, stop: number, count: number): Float32Array {
  const [first, last] = [f32(start), f32(stop)];
  const step = f32(f32(last - first) / (count - 1));
  return Float32Array.from({ length: count }, (_, i) =>
    i < count >> 1 ? first + step * i : last - step * (count - 1 - i),
  );
}

function cumprod(values: Float32Array): Float32Array {
  let product = 1;
  return values.map((value) => (product *= value));
}

/** Lin et al. (arXiv 2305.08891), algorithm 1: the last square root is zero, the first stays. */
function zeroTerminalSnr(products: Float32Array): Float32Array {
  const roots = products.map(Math.sqrt);
  const [first, last] = [roots[0]!, roots[roots.length - 1]!];
  const stretch = f32(first / f32(first - last));
  const rescaled = roots.map((root) => f32(f32(root - last) * stretch) ** 2);
  // By way of the single betas, as the algorithm prints it: the rounding is part of the table.
  return cumprod(
    rescaled.map((value, i) => {
      const ratio = i === 0 ? value : f32(value / rescaled[i - 1]!);
      return 1 - f32(1 - ratio);
    }),
  );
}

/** Timesteps [S] of a session, falling (arXiv 2305.08891, table 2); `linspace` gives fractions. */
export function spacedTimesteps(config: SchedulerConfig, steps: number): number[] {
  const count = config.num_train_timesteps;
  checkSteps(steps, count);
  switch (config.timestep_spacing) {
    case "linspace":
      return [...linspace(0, count - 1, steps)].map(f32).reverse();
    case "trailing":
      return trailing(count, steps);
    default:
      return leading(config, steps);
  }
}

/** As `spacedTimesteps`, for samplers that look single timesteps up. */
export function roundedTimesteps(config: SchedulerConfig, steps: number): number[] {
  if (config.timestep_spacing !== "linspace") return spacedTimesteps(config, steps);
  const count = config.num_train_timesteps;
  checkSteps(steps, count);
  return [...linspace(0, count - 1, steps)].map(roundEven).reverse();
}

/**
 * As `roundedTimesteps`, with a point more, which is left out: the lowest, where the last step
 * would end. Solvers of several orders end at a level of their own.
 */
export function multistepTimesteps(config: SchedulerConfig, steps: number): number[] {
  const count = config.num_train_timesteps;
  checkSteps(steps, count);
  if (config.timestep_spacing === "trailing") return trailing(count, steps);
  if (config.timestep_spacing === "leading") return leading(config, steps + 1).slice(0, -1);
  return [...linspace(0, count - 1, steps + 1)].map(roundEven).reverse().slice(0, -1);
}

export function checkSteps(steps: number, most: number, name = ""): void {
  if (!Number.isInteger(steps) || steps < 1 || steps > most) {
    throw new InputError(`\`1 <= steps <= ${name}${most}\` must hold`, `steps=${steps}`);
  }
}

function trailing(count: number, steps: number): number[] {
  const ratio = count / steps;
  // numpy.arange's stride, the difference of its first two values: halves round by its last bit.
  const stride = count - ratio - count;
  return Array.from({ length: steps }, (_, i) => roundEven(count + i * stride) - 1);
}

function leading(config: SchedulerConfig, steps: number): number[] {
  const count = config.num_train_timesteps;
  const stride = Math.floor(count / steps);
  const visited = Array.from(
    { length: steps },
    (_, i) => (steps - 1 - i) * stride + config.steps_offset,
  );
  if (visited[0]! >= count) {
    const found = `${visited[0]} (steps_offset=${config.steps_offset})`;
    throw new InputError(`the first timestep must be below ${count}`, found, "Take fewer steps.");
  }
  return visited;
}
