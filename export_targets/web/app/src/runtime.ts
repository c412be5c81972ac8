/** onnxruntime-web: on the GPU where the browser gives one, else in WebAssembly. */

import type { Ort } from "edgekd-core";
import type { Backend } from "./messages";
import gpuGlue from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url";
import gpuWasm from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url";
import cpuGlue from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import cpuWasm from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";

const MOST_THREADS = 8; // more only wait for one another

export interface OpenRuntime {
  readonly ort: Ort;
  readonly backend: Backend;
  readonly threads: number;
  /** Of `InferenceSession.create`. */
  readonly options: object;
}

/** @param wanted null: the GPU where there is one */
export async function openRuntime(wanted: Backend | null): Promise<OpenRuntime> {
  const backend = wanted ?? ((await hasGpu()) ? "webgpu" : "wasm");
  const module =
    backend === "webgpu"
      ? await import("onnxruntime-web/webgpu")
      : await import("onnxruntime-web/wasm");
  const { wasm } = module.env;
  const [mjs, file] = backend === "webgpu" ? [gpuGlue, gpuWasm] : [cpuGlue, cpuWasm];
  wasm.wasmPaths = { mjs: absolute(mjs), wasm: absolute(file) };
  // Memory is shared between threads only on pages that no other page can look into.
  const cores = navigator.hardwareConcurrency || 1;
  wasm.numThreads = self.crossOriginIsolated ? Math.min(MOST_THREADS, cores) : 1;
  const options = { executionProviders: [backend] };
  return { ort: module as unknown as Ort, backend, threads: wasm.numThreads, options };
}

async function hasGpu(): Promise<boolean> {
  // Not among TypeScript's types yet.
  const gpu = (navigator as { gpu?: { requestAdapter(): Promise<object | null> } }).gpu;
  try {
    return Boolean(await gpu?.requestAdapter());
  } catch {
    return false;
  }
}

function absolute(path: string): string {
  return new URL(path, import.meta.url).href;
}
