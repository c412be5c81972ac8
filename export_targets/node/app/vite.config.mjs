// Bundles core and tokenizer into two modules; onnxruntime-node stays a dependency.
import { fileURLToPath } from "node:url";

const core = fileURLToPath(new URL("../../web/core/src/index.ts", import.meta.url));

export default {
  resolve: { alias: { "edgekd-core": core } },
  ssr: { noExternal: true },
  build: {
    ssr: true,
    target: "node20",
    minify: false,
    outDir: "dist",
    rolldownOptions: {
      input: { index: "src/index.ts", cli: "src/cli.ts" },
      external: ["onnxruntime-node"],
      experimental: { attachDebugInfo: "none" }, // paths of this machine, as comments
      output: { entryFileNames: "[name].mjs", chunkFileNames: "core.mjs" },
    },
  },
  logLevel: "warn",
};
