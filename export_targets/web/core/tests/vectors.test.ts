/** The vectors that Python made from transformers, torch and diffusers: see `testdata/README.md`. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

import { ClipTokenizer, makeSampler, parseScheduler, SAMPLERS, TorchGenerator } from "../src";
import { moreTrajectories, testdata, tokenizerFolders } from "./places";

interface Trajectory {
  scheduler: Record<string, unknown>;
  steps: number;
  timesteps: number[];
  seed: number;
  shape: number[];
  latents: number[][];
}

interface Vectors {
  tokens: { tokenizer: string; prompt: string; input_ids: number[] }[];
  noise: {
    seed: number;
    shape: number[];
    values?: number[];
    head?: number[];
    tail?: number[];
    sum?: number;
  }[];
  trajectories: Trajectory[];
}

const vectors = JSON.parse(readFileSync(join(testdata, "vectors.json"), "utf8")) as Vectors;

describe.each(Object.entries(tokenizerFolders))("tokens of %s", (name, folder) => {
  const text = (file: string) => readFileSync(join(folder, file), "utf8");
  const tokenizer = new ClipTokenizer({
    vocab: text("vocab.json"),
    merges: text("merges.txt"),
    config: text("tokenizer_config.json"),
  });
  const cases = vectors.tokens.filter((one) => one.tokenizer === name);
  it("has cases", () => expect(cases.length).toBeGreaterThan(20));
  it.each(cases)("$prompt", ({ prompt, input_ids }) => {
    expect(tokenizer.encode(prompt).ids).toEqual(input_ids);
  });
});

describe("noise", () => {
  it.each(vectors.noise)("seed $seed, shape $shape", ({ seed, shape, values, head, tail, sum }) => {
    const size = shape.reduce((one, other) => one * other);
    const found = new TorchGenerator(seed).randn(size);
    expect(found.length).toBe(size);
    close(found.slice(0, (values ?? head!).length), values ?? head!, 3e-6);
    if (tail) close(found.slice(-tail.length), tail, 3e-6);
    if (sum) expect(Math.abs(found.reduce((one, other) => one + other, 0) - sum)).toBeLessThan(1e-2);
  });
});

describe("trajectories", () => {
  const more = JSON.parse(readFileSync(moreTrajectories, "utf8")) as Trajectory[];
  const known = [...vectors.trajectories, ...more];
  it("has cases of all samplers", () => {
    const names = new Set(known.map((one) => one.scheduler["_class_name"]));
    expect([...names].sort()).toEqual([...SAMPLERS].sort());
  });
  it.each(known)("$scheduler._class_name, $steps steps, seed $seed", (one) => {
    const sampler = makeSampler(parseScheduler(one.scheduler), one.steps);
    close(sampler.timesteps, one.timesteps, 1e-3);
    const generator = new TorchGenerator(one.seed);
    const size = one.shape.reduce((left, right) => left * right);
    let x: Float32Array = generator.randn(size).map((value) => value * sampler.initialScale);
    one.timesteps.forEach((timestep, index) => {
      const wave = 0.1 * Math.cos(timestep / 100);
      const output = sampler.modelInput(x, index).map((value) => 0.5 * Math.tanh(value) + wave);
      x = sampler.step(output, x, index, () => generator.randn(size));
      const expected = one.latents[index]!;
      close(x, expected, 1e-5 * Math.max(...expected.map(Math.abs)));
    });
  });
});

/** Values agree; NaN never does. */
function close(found: ArrayLike<number>, expected: readonly number[], tolerance: number): void {
  expect(found.length).toBe(expected.length);
  const worst = Math.max(...expected.map((value, i) => Math.abs(value - found[i]!)));
  expect(worst).toBeLessThanOrEqual(tolerance);
}
