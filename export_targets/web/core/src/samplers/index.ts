/** The samplers by their classes in diffusers. */

import type { SamplerName, SchedulerConfig } from "../scheduler_config";
import { lcm, tcd } from "./consistency";
import { ddim } from "./ddim";
import { dpmSolver } from "./dpm_solver";
import { euler } from "./euler";
import type { Sampler } from "./sampler";

const MAKERS: Record<SamplerName, (config: SchedulerConfig, steps: number) => Sampler> = {
  DDIMScheduler: ddim,
  DPMSolverMultistepScheduler: dpmSolver,
  EulerDiscreteScheduler: (config, steps) => euler(config, steps, false),
  EulerAncestralDiscreteScheduler: (config, steps) => euler(config, steps, true),
  LCMScheduler: lcm,
  TCDScheduler: tcd,
};

/** A session of `steps` steps. */
export function makeSampler(config: SchedulerConfig, steps: number): Sampler {
  return MAKERS[config.name](config, steps);
}
