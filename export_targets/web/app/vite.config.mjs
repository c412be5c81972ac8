// Two builds: the page with its worker, and the service worker, whose name must stay the same.
const worker = process.env.EDGEKD_PART === "service-worker";

const page = { outDir: "dist", modulePreload: { polyfill: false }, assetsInlineLimit: 0 };
const service = {
  outDir: "dist",
  emptyOutDir: false,
  copyPublicDir: false,
  lib: { entry: "src/sw.ts", formats: ["es"], fileName: () => "sw.js" },
};

export default {
  base: "./",
  // The builds of onnxruntime-web that take their WebAssembly from files.
  resolve: {
    conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "production"],
  },
  worker: { format: "es" },
  build: { target: "es2022", reportCompressedSize: false, ...(worker ? service : page) },
  logLevel: "warn",
};
