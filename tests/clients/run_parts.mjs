// Runs exported parts in onnxruntime-node or onnxruntime-web (WebAssembly) on inputs from files.
//
// node run_parts.mjs PACKAGE JOB.json
// JOB: [{model, inputs: [{name, type, dims, file}], outputs: {name: file}}], files of raw
// little-endian numbers.

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const [packageName, jobFile] = process.argv.slice(2);
const ort = createRequire(process.cwd() + "/")(packageName);
const ARRAYS = { float32: Float32Array, int64: BigInt64Array };

function tensor({ type, dims, file }) {
  const bytes = readFileSync(file);
  const values = new ARRAYS[type](
    bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength),
  );
  return new ort.Tensor(type, values, dims);
}

const isWeb = packageName === "onnxruntime-web";
if (isWeb) ort.env.wasm.numThreads = 1;
for (const { model, inputs, outputs } of JSON.parse(readFileSync(jobFile))) {
  const session = await ort.InferenceSession.create(readFileSync(model), {
    executionProviders: [isWeb ? "wasm" : "cpu"],
    intraOpNumThreads: 1,
  });
  const results = await session.run(
    Object.fromEntries(inputs.map((input) => [input.name, tensor(input)])),
  );
  for (const [name, file] of Object.entries(outputs)) {
    const { data, dims, type } = results[name];
    writeFileSync(file, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    console.log(JSON.stringify({ model, name, dims, type }));
  }
  await session.release();
}
