/** onnxruntime-web and onnxruntime-node as a `Runtime`; their JavaScript interfaces are one. */

import { InputError } from "./errors";
import type { Model } from "./model";
import { Pipeline, type Encoder, type Ids, type Runtime, type Tensor } from "./pipeline";
import { ClipTokenizer } from "./tokenizer";

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

/**
 * Of every session: threads sleep between operators. Others that wait in a loop are faster on an
 * idle machine, and several times slower beside a program that computes too.
 */
const SESSION = { logSeverityLevel: 3, extra: { session: { intra_op: { allow_spinning: "0" } } } };

/** The files of a bundle's model; what is damaged or missing is refused. */
export interface ModelFiles {
  read(path: string): Promise<Uint8Array<ArrayBuffer>>;
  /** Where a file lies, for runtimes that open models by name; absent: `read` is used. */
  locate?(path: string): Promise<string>;
}

/** Opens all parts of a model, one after the other, which bounds the memory. */
export async function openPipeline(
  ort: Ort,
  model: Model,
  files: ModelFiles,
  options: object,
): Promise<Pipeline> {
  const encoders: Encoder[] = [];
  for (const suffix of ["", "_2"]) {
    // An SDXL refiner has the second encoder alone.
    if (!(`tokenizer${suffix}/vocab.json` in model.files)) continue;
    encoders.push({
      part: `text_encoder${suffix}`,
      tokenizer: await openTokenizer(`tokenizer${suffix}`, files),
    });
  }
  if (!encoders.length) throw new InputError("the model must have a tokenizer", "none");
  const sessions = new Map<string, OrtSession>();
  for (const part of [...encoders.map((one) => one.part), "unet", "vae_decoder"]) {
    sessions.set(part, await openPart(ort, model, part, files, options));
  }
  return new Pipeline(model, encoders, ortRuntime(ort, sessions));
}

async function openTokenizer(folder: string, files: ModelFiles): Promise<ClipTokenizer> {
  const names = ["vocab.json", "merges.txt", "tokenizer_config.json"];
  const texts: string[] = [];
  for (const name of names) {
    texts.push(new TextDecoder().decode(await files.read(`${folder}/${name}`)));
  }
  const [vocab, merges, config] = texts as [string, string, string];
  return new ClipTokenizer({ vocab, merges, config });
}

async function openPart(
  ort: Ort,
  model: Model,
  part: string,
  files: ModelFiles,
  options: object,
): Promise<OrtSession> {
  const path = ["model.onnx", "model.ort"]
    .map((name) => `${part}/${name}`)
    .find((name) => name in model.files);
  if (!path) throw new InputError(`the model must have \`${part}/model.onnx\``, "none");
  // Weights that are kept beside a graph are found by the name that the graph gives them.
  const beside = Object.keys(model.files).filter(
    (name) => name.startsWith(`${part}/`) && name !== path && !name.endsWith(".json"),
  );
  const settings = { ...SESSION, ...options };
  if (files.locate) {
    for (const name of beside) await files.locate(name);
    return ort.InferenceSession.create((await files.locate(path)) as never, settings);
  }
  const externalData = [];
  for (const name of beside) {
    externalData.push({ path: name.slice(part.length + 1), data: await files.read(name) });
  }
  const extra = externalData.length ? { externalData } : {};
  return ort.InferenceSession.create(await files.read(path), { ...settings, ...extra });
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
