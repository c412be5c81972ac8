/** onnxruntime-web and onnxruntime-node as a `Runtime`; their JavaScript interfaces are one. */

import { ClipTokenizer } from "./tokenizer";
import { InputError } from "./errors";
import type { Model } from "./model";
import { Pipeline, type Encoder, type Ids, type Runtime, type Tensor } from "./pipeline";

/** What is used of `onnxruntime-common`. */
export interface Ort {
  readonly Tensor: new (type: never, data: never, dims: readonly number[]) => unknown;
  readonly InferenceSession: {
    create(model: Uint8Array, options: object): Promise<OrtSession>;
  };
}

interface OrtSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  run(inputs: never, wanted: readonly string[]): Promise<unknown>;
}

/** Reads one file of a bundle's model and checks it; the reader says what it is busy with. */
export type ReadFile = (path: string) => Promise<Uint8Array<ArrayBuffer>>;

/** Opens all parts of a model, one after the other, which bounds the memory. */
export async function openPipeline(
  ort: Ort,
  model: Model,
  read: ReadFile,
  options: object,
): Promise<Pipeline> {
  const encoders: Encoder[] = [];
  for (const suffix of ["", "_2"]) {
    // An SDXL refiner has the second encoder alone.
    if (!(`tokenizer${suffix}/vocab.json` in model.files)) continue;
    encoders.push({
      part: `text_encoder${suffix}`,
      tokenizer: await openTokenizer(`tokenizer${suffix}`, read),
    });
  }
  if (!encoders.length) throw new InputError("the model must have a tokenizer", "none");
  const sessions = new Map<string, OrtSession>();
  for (const part of [...encoders.map((one) => one.part), "unet", "vae_decoder"]) {
    sessions.set(part, await openPart(ort, model, part, read, options));
  }
  return new Pipeline(model, encoders, ortRuntime(ort, sessions));
}

async function openTokenizer(folder: string, read: ReadFile): Promise<ClipTokenizer> {
  const names = ["vocab.json", "merges.txt", "tokenizer_config.json"];
  const texts: string[] = [];
  for (const name of names) {
    texts.push(new TextDecoder().decode(await read(`${folder}/${name}`)));
  }
  const [vocab, merges, config] = texts as [string, string, string];
  return new ClipTokenizer({ vocab, merges, config });
}

async function openPart(
  ort: Ort,
  model: Model,
  part: string,
  read: ReadFile,
  options: object,
): Promise<OrtSession> {
  const path = ["model.onnx", "model.ort"]
    .map((name) => `${part}/${name}`)
    .find((name) => name in model.files);
  if (!path) throw new InputError(`the model must have \`${part}/model.onnx\``, "none");
  // Weights that are kept beside a graph are found by the name that the graph gives them.
  const beside = Object.keys(model.files).filter(
    (name) => name.startsWith(`${part}/`) && /\.(data|onnx_data|bin)$/.test(name),
  );
  const externalData = [];
  for (const name of beside) {
    externalData.push({ path: name.slice(part.length + 1), data: await read(name) });
  }
  const bytes = await read(path);
  const extra = externalData.length ? { externalData } : {};
  return ort.InferenceSession.create(bytes, { ...options, ...extra });
}

function ortRuntime(ort: Ort, sessions: ReadonlyMap<string, OrtSession>): Runtime {
  const tensor = (value: Tensor | Ids): unknown =>
    "ids" in value
      ? new ort.Tensor("int64" as never, BigInt64Array.from(value.ids, BigInt) as never, [
          1,
          value.ids.length,
        ])
      : new ort.Tensor("float32" as never, value.data as never, value.dims);
  return {
    outputs: (part) => sessions.get(part)!.outputNames,
    async run(part, inputs, wanted) {
      const session = sessions.get(part)!;
      const feeds = Object.fromEntries(
        session.inputNames.map((name) => {
          const value = inputs[name];
          if (!value) {
            throw new InputError(`\`${part}\` must ask for what edgekd exports`, `\`${name}\``);
          }
          return [name, tensor(value)];
        }),
      );
      return (await session.run(feeds as never, wanted)) as Record<string, Tensor>;
    },
  };
}
