// Puts the files of ONNX Runtime that a browser loads beside the page, so that nothing comes from anywhere else.

import { copyFileSync, mkdirSync } from "node:fs";

const names = [
  "ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm",
  "ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm",
];
mkdirSync("public/ort", { recursive: true });
for (const name of names) copyFileSync(`node_modules/onnxruntime-web/dist/${name}`, `public/ort/${name}`);
