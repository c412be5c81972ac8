/** What the U-Net is told beside the latents: the prompt, the picture's size, guidance. */

import { InputError } from "./errors";
import type { Model } from "./model";
import { f32 } from "./numbers";
import type { Encoder, Runtime, Tensor } from "./pipeline";

/** Input name of the U-Net -> values. */
export type Conditions = Record<string, Tensor>;

const STATES = "hidden_states.";

/**
 * encoder_hidden_states [1,L,D]; SDXL: the encoders' last but one states side by side, and the
 * pooled vector of the last encoder, text_embeds [1,P].
 */
export async function encodePrompt(
  model: Model,
  encoders: readonly Encoder[],
  runtime: Runtime,
  prompt: string,
): Promise<{ conditions: Conditions; cut: number }> {
  const states: Tensor[] = [];
  const conditions: Conditions = {};
  let cut = 0;
  for (const { part, tokenizer } of encoders) {
    const tokens = tokenizer.encode(prompt);
    cut = Math.max(cut, tokens.cut);
    const state = model.is_sdxl ? lastButOne(runtime.outputs(part)) : "last_hidden_state";
    const wanted = [state];
    const pools = model.is_sdxl && part === encoders[encoders.length - 1]!.part;
    if (pools) wanted.push("text_embeds");
    const found = await runtime.run(part, { input_ids: { ids: tokens.ids } }, wanted);
    states.push(taken(found, state, part));
    if (pools) conditions["text_embeds"] = taken(found, "text_embeds", part);
  }
  conditions["encoder_hidden_states"] = sideBySide(states);
  return { conditions, cut };
}

function taken(found: Record<string, Tensor>, name: string, part: string): Tensor {
  const tensor = found[name];
  if (!tensor) throw new InputError(`\`${part}\` must give \`${name}\``, "nothing of the name");
  return tensor;
}

function lastButOne(names: readonly string[]): string {
  const layers = names
    .filter((name) => name.startsWith(STATES))
    .map((name) => Number(name.slice(STATES.length)))
    .sort((one, other) => one - other);
  return `${STATES}${layers.slice(-2)[0] ?? 0}`;
}

/** [1,L,D1], [1,L,D2] -> [1,L,D1+D2]. */
function sideBySide(states: readonly Tensor[]): Tensor {
  if (states.length === 1) return states[0]!;
  const length = states[0]!.dims[1]!;
  const width = states.reduce((total, state) => total + state.dims[2]!, 0);
  const data = new Float32Array(length * width);
  for (let row = 0; row < length; row++) {
    let at = row * width;
    for (const { data: values, dims } of states) {
      data.set(values.subarray(row * dims[2]!, (row + 1) * dims[2]!), at);
      at += dims[2]!;
    }
  }
  return { data, dims: [1, length, width] };
}

/** time_ids [1,6] of a whole picture: Podell et al., "SDXL" (arXiv 2307.01952), section 2.2. */
export function sizeCondition(height: number, width: number): Tensor {
  return { data: Float32Array.of(height, width, 0, 0, height, width), dims: [1, 6] };
}

/**
 * timestep_cond [1,G]: the guidance scale for a U-Net that was distilled with it. Sines and cosines
 * of 1000 (scale - 1): Meng et al. (arXiv 2210.03142), section 3.1; frequencies as in diffusers.
 */
export function guidanceCondition(scale: number, width: number): Tensor {
  const half = width >> 1;
  const data = new Float32Array(width); // an odd width ends in a zero
  for (let i = 0; i < half; i++) {
    const frequency = f32(Math.exp(f32(i * f32(-Math.log(1e4) / (half - 1)))));
    const angle = f32(f32((scale - 1) * 1000) * frequency);
    data[i] = Math.sin(angle);
    data[half + i] = Math.cos(angle);
  }
  return { data, dims: [1, width] };
}
