/** `scheduler_config.json`: the settings that the samplers here obey. */

import { InputError } from "./errors";

/** Settings of one scheduler, the defaults of its class in diffusers filled in. */
export interface SchedulerConfig {
  /** Class in diffusers. */
  readonly name: SamplerName;
  /** T, how many noise levels the model was trained on. */
  readonly num_train_timesteps: number;
  readonly beta_start: number;
  readonly beta_end: number;
  readonly beta_schedule: string;
  /** The last level is noise alone. */
  readonly rescale_betas_zero_snr: boolean;
  /** What the U-Net predicts. */
  readonly prediction_type: string;
  /** Which levels a session visits. */
  readonly timestep_spacing: string;
  readonly steps_offset: number;
  readonly clip_sample: boolean;
  readonly clip_sample_range: number;
  /** The last step ends at no noise, else at the first level. */
  readonly set_alpha_to_one: boolean;
  /** Of consistency students. */
  readonly original_inference_steps: number;
  readonly timestep_scaling: number;
  /** The last noise level: `zero` or `sigma_min`. */
  readonly final_sigmas_type: string;
  /** Of DPM-Solver++. */
  readonly solver_order: number;
  readonly solver_type: string;
  readonly lower_order_final: boolean;
  readonly euler_at_final: boolean;
}

type Settings = Omit<SchedulerConfig, "name">;

const DEFAULTS: Settings = {
  num_train_timesteps: 1000,
  beta_start: 0.0001,
  beta_end: 0.02,
  beta_schedule: "linear",
  rescale_betas_zero_snr: false,
  prediction_type: "epsilon",
  timestep_spacing: "leading",
  steps_offset: 0,
  clip_sample: false,
  clip_sample_range: 1,
  set_alpha_to_one: true,
  original_inference_steps: 50,
  timestep_scaling: 10,
  final_sigmas_type: "zero",
  solver_order: 2,
  solver_type: "midpoint",
  lower_order_final: true,
  euler_at_final: false,
};
const CONSISTENCY = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: "scaled_linear" };
const CLIPPING = ["clip_sample", "clip_sample_range"];
const COMMON = [
  "num_train_timesteps",
  "beta_start",
  "beta_end",
  "beta_schedule",
  "prediction_type",
  "timestep_spacing",
  "steps_offset",
  "rescale_betas_zero_snr",
];

/** Class -> where its defaults differ, and the settings that it obeys beside the common ones. */
const CLASSES = {
  DDIMScheduler: {
    defaults: { clip_sample: true },
    obeys: [...CLIPPING, "set_alpha_to_one"],
  },
  DPMSolverMultistepScheduler: {
    defaults: { timestep_spacing: "linspace" },
    obeys: [
      "final_sigmas_type",
      "solver_order",
      "solver_type",
      "lower_order_final",
      "euler_at_final",
    ],
  },
  EulerDiscreteScheduler: {
    defaults: { timestep_spacing: "linspace" },
    obeys: ["final_sigmas_type"],
  },
  EulerAncestralDiscreteScheduler: {
    defaults: { timestep_spacing: "linspace" },
    obeys: [],
  },
  LCMScheduler: {
    defaults: CONSISTENCY,
    obeys: [...CLIPPING, "set_alpha_to_one", "original_inference_steps", "timestep_scaling"],
  },
  TCDScheduler: {
    defaults: CONSISTENCY,
    obeys: ["original_inference_steps"],
  },
} satisfies Record<string, { defaults: Partial<Settings>; obeys: string[] }>;

export type SamplerName = keyof typeof CLASSES;
export const SAMPLERS = Object.keys(CLASSES) as SamplerName[];

const CHOICES: Record<string, readonly unknown[]> = {
  beta_schedule: ["linear", "scaled_linear"],
  final_sigmas_type: ["zero", "sigma_min"],
  prediction_type: ["epsilon", "v_prediction"],
  solver_order: [1, 2],
  solver_type: ["midpoint", "heun"],
  timestep_spacing: ["leading", "linspace", "trailing"],
};
/** Settings that diffusers obeys, and these samplers do not: any value but these is refused. */
const NEUTRAL: Record<string, readonly unknown[]> = {
  thresholding: [false, null],
  trained_betas: [null],
};
const BY_SIGMA = Object.fromEntries(
  ["karras", "exponential", "beta"].map((rule) => [`use_${rule}_sigmas`, [false, null]]),
);
const NEUTRAL_OF: { [name in SamplerName]?: Record<string, readonly unknown[]> } = {
  DPMSolverMultistepScheduler: {
    ...BY_SIGMA,
    use_flow_sigmas: [false, null],
    use_dynamic_shifting: [false, null],
    use_lu_lambdas: [false],
    algorithm_type: ["dpmsolver++"],
    lambda_min_clipped: ["-Infinity"],
  },
  EulerDiscreteScheduler: {
    ...BY_SIGMA,
    interpolation_type: ["linear"],
    timestep_type: ["discrete"],
  },
};

/** Settings from a `scheduler_config.json`; what is not implemented here is refused by name. */
export function parseScheduler(values: Record<string, unknown>): SchedulerConfig {
  const name = values["_class_name"];
  if (typeof name !== "string" || !Object.hasOwn(CLASSES, name)) {
    throw new InputError(`the scheduler must be one of ${SAMPLERS.join(", ")}`, String(name));
  }
  const kind = CLASSES[name as SamplerName];
  const obeyed = [...COMMON, ...kind.obeys] as (keyof Settings)[];
  const settings: Record<string, unknown> = { ...DEFAULTS, ...kind.defaults };
  for (const key of obeyed) {
    const value = values[key];
    if (value === undefined) continue;
    checkValue(key, value, CHOICES[key], typeof DEFAULTS[key]);
    settings[key] = value;
  }
  const neutral = { ...NEUTRAL, ...NEUTRAL_OF[name as SamplerName] };
  for (const [key, accepted] of Object.entries(neutral)) {
    if (key in values) checkValue(key, values[key], accepted);
  }
  const config = { ...settings, name } as unknown as SchedulerConfig;
  checkRanges(config);
  return config;
}

function checkValue(
  key: string,
  value: unknown,
  accepted: readonly unknown[] | undefined,
  type?: string,
): void {
  if (accepted && !accepted.includes(value)) {
    throw new InputError(`\`${key}\` must be one of ${accepted.join(", ")}`, String(value));
  }
  if (!accepted && typeof value !== type) {
    throw new InputError(`\`${key}\` must be a ${type}`, String(value));
  }
}

function checkRanges(config: SchedulerConfig): void {
  const count = config.num_train_timesteps;
  const { beta_start: low, beta_end: high, original_inference_steps: original } = config;
  const zeroSnr = config.rescale_betas_zero_snr && config.prediction_type === "epsilon";
  const rules: Record<string, boolean> = {
    "2 <= num_train_timesteps <= 1000000": Number.isInteger(count) && 2 <= count && count <= 1e6,
    "0 < beta_start <= beta_end < 1": 0 < low && low <= high && high < 1,
    "0 <= steps_offset < num_train_timesteps":
      0 <= config.steps_offset && config.steps_offset < count,
    "clip_sample_range > 0": config.clip_sample_range > 0,
    "timestep_scaling > 0": config.timestep_scaling > 0,
    "1 <= original_inference_steps <= num_train_timesteps": 1 <= original && original <= count,
    // 0 / 0: nothing follows from the noise of noise alone.
    "not (rescale_betas_zero_snr and prediction_type == 'epsilon')": !zeroSnr,
  };
  for (const [rule, holds] of Object.entries(rules)) {
    if (!holds) {
      throw new InputError(`\`${rule}\` must hold in the scheduler's settings`, "other values");
    }
  }
}
