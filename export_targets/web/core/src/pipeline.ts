/** Prompts to pictures. Latents [1,c,h,w]; hidden states [1,L,D]. */

import { encodePrompt, guidanceCondition, sizeCondition, type Conditions } from "./conditions";
import { Cancelled, InputError } from "./errors";
import type { Model } from "./model";
import { TorchGenerator } from "./noise";
import { f32, roundEven } from "./numbers";
import { makeSampler } from "./samplers";
import type { Sampler } from "./samplers/sampler";
import type { ClipTokenizer } from "./tokenizer";
import type { Picture, Request, Watcher } from "./types";

export interface Tensor {
  readonly data: Float32Array;
  readonly dims: readonly number[];
}

/** The runtime that runs the parts of a model: `text_encoder`, `unet`, `vae_decoder`. */
export interface Runtime {
  /** Names of what a part gives back. */
  outputs(part: string): readonly string[];
  /** Inputs by name; token ids go as whole numbers. */
  run(
    part: string,
    inputs: Record<string, Tensor | Ids>,
    wanted: readonly string[],
  ): Promise<Record<string, Tensor>>;
}

/** Token ids [1,L]. */
export interface Ids {
  readonly ids: readonly number[];
}

export interface Encoder {
  readonly part: string;
  readonly tokenizer: ClipTokenizer;
}

export class Pipeline {
  constructor(
    readonly model: Model,
    private readonly encoders: readonly Encoder[],
    private readonly runtime: Runtime,
  ) {}

  /** Draws the picture that diffusers draws from `torch.Generator().manual_seed(seed)`. */
  async generate(request: Request, watcher: Watcher = {}): Promise<Picture> {
    const { model } = this;
    const asked = checked(model, request);
    const sampler = makeSampler(model.scheduler, asked.steps);
    const { channels, scale } = model.latents;
    const dims = [1, channels, asked.height / scale, asked.width / scale];
    const size = dims.reduce((one, other) => one * other);
    const generator = new TorchGenerator(asked.seed);
    const { branches, cut } = await this.branches(asked, watcher);
    let latents: Float32Array = generator.randn(size).map((value) => value * f32(sampler.initialScale));
    const calls = sampler.timesteps.length;
    for (let index = 0; index < calls; index++) {
      await breathe(watcher);
      const output = await this.predict(sampler, latents, dims, index, branches, asked.guidance);
      latents = sampler.step(output, latents, index, () => generator.randn(size));
      watcher.onStep?.(index + 1, calls);
    }
    await breathe(watcher);
    const pixels = await this.decode(latents, dims);
    return { width: asked.width, height: asked.height, pixels, cut };
  }

  /**
   * Conditions of the U-Net's calls: away from the first, where there are two, to the last.
   * Classifier-free guidance: Ho and Salimans (arXiv 2207.12598), equation 6.
   */
  private async branches(
    asked: Asked,
    watcher: Watcher,
  ): Promise<{ branches: Conditions[]; cut: number }> {
    const { model, encoders, runtime } = this;
    await breathe(watcher);
    const { conditions, cut } = await encodePrompt(model, encoders, runtime, asked.prompt);
    const branches = [conditions];
    if (asked.guidance > 1 && model.guidance_width === null) {
      await breathe(watcher);
      branches.unshift(
        model.zero_negative && asked.negative === undefined
          ? zeros(conditions)
          : (await encodePrompt(model, encoders, runtime, asked.negative ?? "")).conditions,
      );
    }
    const shared: Conditions = {};
    if (model.is_sdxl) shared["time_ids"] = sizeCondition(asked.height, asked.width);
    if (model.guidance_width !== null) {
      shared["timestep_cond"] = guidanceCondition(asked.guidance, model.guidance_width);
    }
    return { branches: branches.map((branch) => ({ ...branch, ...shared })), cut };
  }

  private async predict(
    sampler: Sampler,
    latents: Float32Array,
    dims: readonly number[],
    index: number,
    branches: readonly Conditions[],
    guidance: number,
  ): Promise<Float32Array> {
    const sample = { data: sampler.modelInput(latents, index), dims };
    const timestep = { data: Float32Array.of(sampler.timesteps[index]!), dims: [] };
    const outputs: Float32Array[] = [];
    for (const branch of branches) {
      const inputs = { sample, timestep, ...branch };
      outputs.push((await this.only("unet", inputs, "out_sample")).data);
    }
    const [away, to] = outputs;
    if (!to) return away!;
    const scale = f32(guidance);
    return away!.map((value, i) => value + f32(scale * f32(to[i]! - value)));
  }

  /** Latents -> RGB. */
  private async decode(
    latents: Float32Array,
    dims: readonly number[],
  ): Promise<Uint8Array<ArrayBuffer>> {
    const { factor, mean, std } = this.model.latents;
    const plane = dims[2]! * dims[3]!;
    const data = latents.map((value, i) => {
      const scaled = f32(value / f32(factor));
      const channel = Math.floor(i / plane);
      return mean && std ? scaled * std[channel]! + mean[channel]! : scaled;
    });
    const decoded = await this.only("vae_decoder", { latent_sample: { data, dims } }, "sample");
    const area = decoded.dims[2]! * decoded.dims[3]!;
    const pixels = new Uint8Array(3 * area);
    decoded.data.forEach((value, i) => {
      if (!Number.isFinite(value)) {
        throw new InputError("pictures must be finite", "NaN or infinity from the model");
      }
      const unit = Math.min(Math.max(f32(f32(value * 0.5) + 0.5), 0), 1);
      pixels[3 * (i % area) + Math.floor(i / area)] = roundEven(f32(unit * 255));
    });
    return pixels;
  }

  private async only(
    part: string,
    inputs: Record<string, Tensor | Ids>,
    output: string,
  ): Promise<Tensor> {
    const found = (await this.runtime.run(part, inputs, [output]))[output];
    if (!found) throw new InputError(`\`${part}\` must give \`${output}\``, "nothing of the name");
    return found;
  }
}

interface Asked {
  readonly prompt: string;
  readonly negative: string | undefined;
  readonly seed: number | bigint;
  readonly steps: number;
  readonly guidance: number;
  readonly width: number;
  readonly height: number;
}

function checked(model: Model, request: Request): Asked {
  const { generation, sides } = model;
  const guidance = request.guidanceScale ?? generation.guidance_scale;
  if (!(guidance >= 0 && guidance < Infinity)) {
    throw new InputError("`0 <= guidance_scale < inf` must hold", String(guidance));
  }
  if (request.negativePrompt && model.guidance_width !== null) {
    const rule = "a guidance-distilled pipeline takes no negative prompt";
    throw new InputError(rule, request.negativePrompt);
  }
  const height = request.height ?? generation.height;
  const width = request.width ?? generation.width;
  const found = `height=${height}, width=${width}`;
  if (!sides.dynamic && (height !== generation.height || width !== generation.width)) {
    const rule = `pictures must be ${generation.height} by ${generation.width} pixels`;
    throw new InputError(rule, found);
  }
  if ([height, width].some((side) => !(side >= 1) || side % sides.multiple !== 0)) {
    const rule = `height and width must be positive multiples of ${sides.multiple}`;
    throw new InputError(rule, found);
  }
  return {
    prompt: request.prompt,
    negative: request.negativePrompt,
    seed: request.seed ?? 0,
    steps: request.steps ?? generation.steps,
    guidance,
    width,
    height,
  };
}

function zeros(conditions: Conditions): Conditions {
  const rows = Object.entries(conditions).map(
    ([name, { data, dims }]) => [name, { data: new Float32Array(data.length), dims }] as const,
  );
  return Object.fromEntries(rows);
}

/** Lets messages in, such as the one that calls the drawing off. */
async function breathe({ signal }: Watcher): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve));
  if (signal?.aborted) throw new Cancelled();
}
