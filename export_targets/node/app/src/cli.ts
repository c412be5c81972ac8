/** `node dist/cli.mjs PROMPT`: one picture. */

import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { encodePng, InputError, pictureTexts } from "edgekd-core";

const USAGE = `usage: node dist/cli.mjs PROMPT [--out picture.png] [--seed N] [--steps N]
       [--guidance X] [--negative PROMPT] [--width N] [--height N] [--threads N]
       [--model FOLDER] [--json]

PROMPT           what to draw
--out FILE       a PNG file; default: picture.png
--seed N         another picture of the same prompt; default: 0
--steps N        default: the model's own, as for all that follow but --threads
--guidance X     how closely to follow the prompt, where the model is guided
--negative TEXT  what to leave out, where the model is guided
--width N, --height N
--threads N      default: onnxruntime's choice
--model FOLDER   another bundle's \`model\`
--json           times and memory as JSON`;
const TEXTS = ["out", "seed", "steps", "guidance", "negative", "width", "height", "threads"];

try {
  if (process.argv.includes("--help")) console.log(USAGE);
  else await main();
} catch (error) {
  if (!(error instanceof InputError)) throw error;
  console.error(error.message);
  process.exitCode = 2;
}

async function main(): Promise<void> {
  const { values, prompt } = read();
  const out = values["out"] ?? "picture.png";
  if (!/\.png$/i.test(out)) {
    throw new InputError("`--out` must end in .png", JSON.stringify(out));
  }
  const begun = performance.now();
  const threads = number(values, "threads", 1);
  const request = {
    prompt,
    seed: number(values, "seed", 0),
    steps: number(values, "steps", 1),
    negativePrompt: values["negative"],
    guidanceScale: number(values, "guidance", 0, false),
    width: number(values, "width", 1),
    height: number(values, "height", 1),
  };
  const { open } = await module();
  const pipeline = await open({ folder: values["model"], threads });
  const loaded = performance.now();
  const picture = await pipeline.generate(request);
  const drawn = performance.now();
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

/** The bundle's module, whose runtime the bundle does not hold. */
async function module(): Promise<typeof import("./index")> {
  try {
    return await import("./index");
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== "ERR_MODULE_NOT_FOUND" || !message.includes("onnxruntime-node")) throw error;
    const folder = fileURLToPath(new URL("..", import.meta.url));
    const fix = `Run \`npm ci --ignore-scripts\` in ${folder}.`;
    throw new InputError("onnxruntime-node must be installed", "none", fix);
  }
}

type Values = Record<string, string | undefined>;

function read(): { values: Values; prompt: string } {
  const options = Object.fromEntries(
    [...TEXTS, "model"].map((name) => [name, { type: "string" as const }]),
  );
  try {
    const { values, positionals } = parseArgs({
      args: withNegatives(process.argv.slice(2)),
      options: { ...options, json: { type: "boolean" } },
      allowPositionals: true,
    });
    if (positionals.length !== 1) throw new Error("One prompt must be given, in quotes.");
    if (!positionals[0]!.trim()) throw new Error("The prompt must not be empty.");
    return { values: values as Values, prompt: positionals[0]! };
  } catch (error) {
    const [line] = (error as Error).message.split("\n");
    console.error(`${line} (\`--help\` lists the options)`);
    process.exit(2);
  }
}

/** `--seed -1` as `--seed=-1`: Node takes it for two options, and says nothing of the number. */
function withNegatives(words: readonly string[]): string[] {
  const joined: string[] = [];
  for (const word of words) {
    const option = joined.at(-1) ?? "";
    const known = TEXTS.includes(option.slice(2)) && option.startsWith("--");
    if (known && /^-[\d.]/.test(word)) joined[joined.length - 1] = `${option}=${word}`;
    else joined.push(word);
  }
  return joined;
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
