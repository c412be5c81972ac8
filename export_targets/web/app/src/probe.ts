/** Whether a GPU draws what Python draws; it also compiles the GPU's programs ahead. */

import { InputError, type Pipeline } from "edgekd-core";
import type { Probe } from "./messages";

/** Throws InputError if the picture is further from Python's than the probe allows. */
export async function checkPicture(pipeline: Pipeline, probe: Probe): Promise<void> {
  const { prompt, seed, stride } = probe;
  const { width, height, pixels } = await pipeline.generate({ prompt, seed, steps: 1 });
  const expected = Uint8Array.from(atob(probe.pixels), (one) => one.charCodeAt(0));
  let [sum, count] = [0, 0];
  for (let y = 0; y < height; y += stride) {
    for (let x = 0; x < width; x += stride) {
      for (let channel = 0; channel < 3; channel++) {
        sum += (pixels[3 * (y * width + x) + channel]! - expected[count++]!) ** 2;
      }
    }
  }
  const db = 10 * Math.log10(255 ** 2 / (sum / count));
  if (!(db >= probe.floor_db)) {
    const rule = `the GPU's pictures must come within ${probe.floor_db} dB of Python's`;
    throw new InputError(rule, `${db.toFixed(1)} dB`);
  }
}
