/** `node dist/cli.mjs PROMPT`: one picture. */

import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";

import { encodePng, InputError, open, pictureTexts } from "./index";

const USAGE = `usage: node dist/cli.mjs PROMPT [--out picture.png] [--seed N] [--steps N]
       [--guidance X] [--negative PROMPT] [--width N] [--height N] [--threads N]
       [--model FOLDER] [--json]`;
const TEXTS = ["out", "seed", "steps", "guidance", "negative", "width", "height", "threads"];

try {
  await main();
} catch (error) {
  if (!(error instanceof InputError)) throw error;
  console.error(error.message);
  process.exitCode = 2;
}

async function main(): Promise<void> {
  const { values, prompt } = read();
  const begun = performance.now();
  const threads = number(values, "threads", 1);
  const pipeline = await open({ folder: values["model"], threads });
  const loaded = performance.now();
  const request = {
    prompt,
    seed: number(values, "seed", 0),
    steps: number(values, "steps", 1),
    negativePrompt: values["negative"],
    guidanceScale: number(values, "guidance", 0, false),
    width: number(values, "width", 1),
    height: number(values, "height", 1),
  };
  const picture = await pipeline.generate(request);
  const drawn = performance.now();
  const out = values["out"] ?? "picture.png";
  await write(out, await encodePng(picture, pictureTexts(pipeline.model, request)));
  if (picture.cut) console.error(`${picture.cut} tokens do not fit and are left out`);
  const [load, draw] = [(loaded - begun) / 1000, (drawn - loaded) / 1000];
  const { rss } = process.memoryUsage();
  if (values["json"]) {
    console.log(JSON.stringify({ file: out, load_s: load, draw_s: draw, rss_bytes: rss }));
  } else {
    console.log(`${out}: opened in ${load.toFixed(2)} s, drawn in ${draw.toFixed(2)} s`);
  }
}

type Values = Record<string, string | undefined>;

function read(): { values: Values; prompt: string } {
  const options = Object.fromEntries(
    [...TEXTS, "model"].map((name) => [name, { type: "string" as const }]),
  );
  try {
    const { values, positionals } = parseArgs({
      options: { ...options, json: { type: "boolean" } },
      allowPositionals: true,
    });
    if (positionals.length !== 1) throw new Error("one prompt must be given");
    return { values: values as Values, prompt: positionals[0]! };
  } catch (error) {
    console.error(`${(error as Error).message}\n${USAGE}`);
    process.exit(2);
  }
}

/** An option's number; undefined: it was left out. */
function number(values: Values, name: string, least: number, whole = true): number | undefined {
  const text = values[name];
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!(whole ? Number.isSafeInteger(value) : Number.isFinite(value)) || !text || value < least) {
    const rule = `\`--${name}\` must be a ${whole ? "whole " : ""}number from ${least} on`;
    throw new InputError(rule, JSON.stringify(text));
  }
  return value;
}

async function write(path: string, bytes: Uint8Array): Promise<void> {
  try {
    await writeFile(path, bytes);
  } catch (error) {
    throw new InputError("`--out` must be writable", (error as Error).message);
  }
}
