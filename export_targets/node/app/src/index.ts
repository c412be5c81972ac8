/** The bundle's model on onnxruntime-node. */

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import {
  checkIntact,
  InputError,
  openPipeline,
  parseModel,
  type Model,
  type Ort,
  type Pipeline,
} from "edgekd-core";
import * as ort from "onnxruntime-node";

import type { Options } from "../index";

export { Cancelled, encodePng, InputError, pictureTexts } from "edgekd-core";

/** The model of this bundle, beside the module. */
const OWN = fileURLToPath(new URL("../model", import.meta.url));
const UNPACK = "Unpack the bundle again.";

/**
 * Opens the model; every file of it is compared with its hash first.
 *
 * Throws InputError where the bundle is damaged, or of a kind that cannot be drawn here.
 */
export async function open({ folder = OWN, threads }: Options = {}): Promise<Pipeline> {
  const model = parseModel(await text(folder), UNPACK);
  const read = (path: string) => intact(model, folder, path);
  const locate = async (path: string) => {
    await read(path);
    return join(folder, path);
  };
  const options = {
    executionProviders: ["cpu"],
    ...(threads && { intraOpNumThreads: threads }),
  };
  return openPipeline(ort as unknown as Ort, model, { read, locate }, options);
}

async function text(folder: string): Promise<string> {
  try {
    return await readFile(join(folder, "model.json"), "utf8");
  } catch {
    throw new InputError("the folder must be a model of a bundle", `no model.json in ${folder}`, UNPACK);
  }
}

async function intact(
  model: Model,
  folder: string,
  path: string,
): Promise<Uint8Array<ArrayBuffer>> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = new Uint8Array(await readFile(join(folder, path)));
  } catch {
    throw new InputError(`\`${path}\` of the model must be there`, folder, UNPACK);
  }
  await checkIntact(model, path, bytes, UNPACK);
  return bytes;
}
