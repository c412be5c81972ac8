/** `model.json` of a bundle: how its model draws, and the size and hash of every file beside it. */

import { InputError } from "./errors";
import { parseScheduler, type SchedulerConfig } from "./scheduler_config";
import type { ModelSummary } from "./types";

const FORMAT = 1;

export interface FileFacts {
  readonly bytes: number;
  readonly sha256: string;
}

/** How pictures are coded. */
export interface Latents {
  readonly channels: number;
  /** Picture side over latent side. */
  readonly scale: number;
  /** Latents are divided by it before they are decoded. */
  readonly factor: number;
  /** SDXL, where the decoder wants them. */
  readonly mean: readonly number[] | null;
  readonly std: readonly number[] | null;
}

export interface Model extends ModelSummary {
  readonly is_sdxl: boolean;
  /** SDXL: an empty negative prompt is zeros. */
  readonly zero_negative: boolean;
  /** Width of the U-Net's input `timestep_cond`; null: it has none. */
  readonly guidance_width: number | null;
  /** Picture sides that can be drawn: the native ones, or multiples where `dynamic`. */
  readonly sides: { readonly multiple: number; readonly dynamic: boolean };
  readonly latents: Latents;
  readonly scheduler: SchedulerConfig;
  /** Content hash of the export. */
  readonly source: string;
  readonly files: Readonly<Record<string, FileFacts>>;
}

type Json = Record<string, unknown>;

/**
 * The model that a `model.json` describes; what cannot be drawn here is refused.
 *
 * @param fix what whoever reads of damage can do, as a sentence
 */
export function parseModel(text: string, fix = ""): Model {
  let values: unknown;
  try {
    values = JSON.parse(text);
  } catch {
    throw new InputError("`model.json` must be JSON", "something else", fix);
  }
  const root = object(values, "model.json");
  if (root["format"] !== FORMAT) {
    const found = String(root["format"]);
    throw new InputError(`\`model.json\` must be of format ${FORMAT}`, found);
  }
  if (root["runtime"] !== "onnx") {
    throw new InputError("the model must be exported for `onnx`", String(root["runtime"]));
  }
  const files = object(root["files"], "files");
  for (const [path, facts] of Object.entries(files)) checkFile(path, object(facts, path));
  const [drawn, sides, latents] = ["generation", "sides", "latents"].map((name) =>
    object(root[name], name),
  ) as [Json, Json, Json];
  for (const name of ["steps", "height", "width"]) whole(drawn, name);
  for (const name of ["channels", "scale"]) whole(latents, name);
  whole(sides, "multiple");
  finite(drawn, "guidance_scale");
  finite(latents, "factor");
  if (root["guidance_width"] !== null) whole(root, "guidance_width");
  return { ...root, scheduler: parseScheduler(object(root["scheduler"], "scheduler")) } as never;
}

function checkFile(path: string, facts: Json): void {
  const parts = path.split("/");
  if (parts.some((part) => part === "" || part === "." || part === "..") || path.includes("\\")) {
    throw new InputError("files of `model.json` must lie beside it", path);
  }
  whole(facts, "bytes", 0);
  if (!/^[0-9a-f]{64}$/.test(String(facts["sha256"]))) {
    throw new InputError(`\`sha256\` of \`${path}\` must be a hash`, String(facts["sha256"]));
  }
}

function object(value: unknown, name: string): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new InputError(`\`${name}\` of \`model.json\` must be an object`, String(value));
  }
  return value as Json;
}

function whole(values: Json, name: string, least = 1): void {
  const value = values[name];
  if (!Number.isSafeInteger(value) || (value as number) < least) {
    throw new InputError(`\`${name}\` of \`model.json\` must be a whole number`, String(value));
  }
}

function finite(values: Json, name: string): void {
  if (!Number.isFinite(values[name])) {
    throw new InputError(`\`${name}\` of \`model.json\` must be a number`, String(values[name]));
  }
}

/** SHA-256 (hex). */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Refuses a file that is not as `model.json` says: a bundle that is there in part; `fix` as above. */
export async function checkIntact(
  model: Model,
  path: string,
  bytes: Uint8Array<ArrayBuffer>,
  fix = "",
): Promise<void> {
  const said = model.files[path];
  if (!said) throw new InputError(`\`model.json\` must list \`${path}\``, "none", fix);
  if (bytes.length !== said.bytes) {
    const rule = `\`${path}\` must have ${said.bytes} bytes`;
    throw new InputError(rule, String(bytes.length), fix);
  }
  const found = await sha256(bytes);
  if (found !== said.sha256) {
    const rule = `\`${path}\` must have the hash ${said.sha256.slice(0, 12)}`;
    throw new InputError(rule, found.slice(0, 12), fix);
  }
}
