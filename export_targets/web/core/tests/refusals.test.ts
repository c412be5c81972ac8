/** What is not as edgekd writes it, or cannot be drawn here, is refused by name. */

import { describe, expect, it } from "vitest";

import {
  checkIntact,
  encodePng,
  InputError,
  makeSampler,
  parseModel,
  parseScheduler,
  sha256,
  TorchGenerator,
} from "../src";

const ABC = new TextEncoder().encode("abc");
// FIPS 180-4, the example of one block.
const ABC_HASH = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

const MODEL = {
  format: 1,
  name: "toy",
  runtime: "onnx",
  guidance_width: null,
  generation: { sampler: "DDIMScheduler", steps: 2, guidance_scale: 1, height: 64, width: 64 },
  sides: { multiple: 16, dynamic: true },
  latents: { channels: 4, scale: 4, factor: 1, mean: null, std: null },
  scheduler: { _class_name: "DDIMScheduler" },
  files: { "unet/model.onnx": { bytes: 3, sha256: ABC_HASH } },
};

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    return (error as Error).message;
  }
  throw new Error("nothing was refused");
}

describe("schedulers", () => {
  const ddim = { _class_name: "DDIMScheduler" };
  it.each([
    [{ _class_name: "UniPCMultistepScheduler" }, "UniPCMultistepScheduler"],
    [{}, "undefined"],
    [{ ...ddim, beta_schedule: "squaredcos_cap_v2" }, "squaredcos_cap_v2"],
    [{ ...ddim, thresholding: true }, "thresholding"],
    [{ ...ddim, num_train_timesteps: "1000" }, "num_train_timesteps"],
    [{ ...ddim, beta_start: -1 }, "beta_start"],
    [{ _class_name: "EulerDiscreteScheduler", use_karras_sigmas: true }, "use_karras_sigmas"],
    [{ _class_name: "DPMSolverMultistepScheduler", solver_order: 3 }, "solver_order"],
  ])("%j", (config, said) => {
    expect(refusal(() => parseScheduler(config))).toContain(said);
  });
  it.each([0, -1, 1.5, NaN, 1001])("%d steps", (steps) => {
    expect(refusal(() => makeSampler(parseScheduler(ddim), steps))).toContain(`steps=${steps}`);
  });
});

describe("seeds", () => {
  it.each([-1, 1.5, NaN, 2n ** 64n])("%s", (seed) => {
    expect(refusal(() => new TorchGenerator(seed))).toContain(String(seed));
  });
});

describe("models", () => {
  it("is read", () => expect(parseModel(JSON.stringify(MODEL)).name).toBe("toy"));
  it.each([
    ["no JSON", "{", "JSON"],
    ["another format", { ...MODEL, format: 2 }, "format 1"],
    ["another runtime", { ...MODEL, runtime: "coreml" }, "coreml"],
    ["a file elsewhere", { ...MODEL, files: { "../x": MODEL.files["unet/model.onnx"] } }, "../x"],
    ["no hash", { ...MODEL, files: { x: { bytes: 3, sha256: "x" } } }, "sha256"],
    ["no steps", { ...MODEL, generation: { ...MODEL.generation, steps: 0 } }, "steps"],
    ["no factor", { ...MODEL, latents: { ...MODEL.latents, factor: "1" } }, "factor"],
    ["a list", [], "object"],
  ])("%s", (_, values, said) => {
    const text = typeof values === "string" ? values : JSON.stringify(values);
    expect(refusal(() => parseModel(text))).toContain(said);
  });
  it("compares files with their hashes", async () => {
    const model = parseModel(JSON.stringify(MODEL));
    expect(await sha256(ABC)).toBe(ABC_HASH);
    await checkIntact(model, "unet/model.onnx", ABC);
    for (const bytes of [ABC.slice(1), new TextEncoder().encode("abd")]) {
      await expect(checkIntact(model, "unet/model.onnx", bytes)).rejects.toThrow("but got");
    }
    await expect(checkIntact(model, "other", ABC)).rejects.toThrow("must list `other`");
  });
});

it("writes PNG files whose checksums are right", async () => {
  const pixels = Uint8Array.from([255, 0, 0, 0, 255, 0]);
  const png = await encodePng({ width: 2, height: 1, pixels, cut: 0 }, { key: "für" });
  expect([...png.slice(0, 8)]).toEqual([137, 80, 78, 71, 13, 10, 26, 10]);
  // An empty IEND with its checksum ends every PNG file.
  expect([...png.slice(-8)]).toEqual([73, 69, 78, 68, 174, 66, 96, 130]);
  expect(new TextDecoder().decode(png)).toContain("iTXtkey\0\0\0\0\0für");
});
