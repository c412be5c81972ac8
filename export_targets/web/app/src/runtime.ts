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
  readonly threads: number;
  /** Of `InferenceSession.create`. */
  readonly options: object;
}

export async function openRuntime(backend: Backend): Promise<OpenRuntime> {
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
  return { ort: module as unknown as Ort, threads: wasm.numThreads, options };
}

/** Of WebGPU, what is used here; it is not among TypeScript's types yet. */
interface Gpu {
  requestAdapter(): Promise<Adapter | null>;
}

interface Adapter {
  readonly info?: { readonly architecture?: string; readonly isFallbackAdapter?: boolean };
}

/** What the browser gives as a GPU, a program that plays one too; null: nothing. */
export async function findGpu(): Promise<Adapter | null> {
  const { gpu } = navigator as { gpu?: Gpu };
  try {
    return (await gpu?.requestAdapter()) ?? null;
  } catch {
    return null;
  }
}

/** Whether there is a GPU, and not a program that plays one, which is slower than WebAssembly. */
export async function hasGpu(): Promise<boolean> {
  const adapter = await findGpu();
  const { architecture = "", isFallbackAdapter = false } = adapter?.info ?? {};
  return Boolean(adapter) && !isFallbackAdapter && !/swiftshader|llvmpipe/.test(architecture);
}

function absolute(path: string): string {
  return new URL(path, import.meta.url).href;
}
