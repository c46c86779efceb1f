// A browser: files from the page's own server, the network in onnxruntime-web.

import type * as Ort from "onnxruntime-web";
import { Model, type Description, type Inputs, type Network, type Read } from "./model.js";
import { selfTest } from "./selftest.js";
import { sha256 } from "./sha256.js";

export type { Prediction } from "./model.js";
export type { Raw } from "./image.js";

/** What computes: the processor, by WebAssembly, or the graphics processor. */
export type Engine = "wasm" | "webgpu";

const RUNTIMES: Record<Engine, string> = {
  wasm: "../ort/ort.wasm.min.mjs",
  webgpu: "../ort/ort.webgpu.min.mjs",
};
const MOST_THREADS = 4; // more than that have to wait for each other in networks of this size

/** The bundle in a folder of the site, the one with bundle.json: `bundle/`. */
export function load(folder: string, engine: Engine = "wasm"): Promise<Model> {
  return Model.load(reader(folder), (description) => open(folder, description, engine));
}

/** What is wrong with the bundle in a folder of the site, one line each; nothing when all is well. */
export function selfTestOf(folder: string, engine: Engine = "wasm"): Promise<string[]> {
  return selfTest(reader(folder), hash, (description) => open(folder, description, engine));
}

/** The browser's own SHA-256 where the page is secure, which is faster. */
async function hash(bytes: Uint8Array): Promise<string> {
  if (!isSecureContext) return sha256(bytes);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Reads files of a folder of the site. */
export function reader(folder: string): Read {
  const base = new URL(folder, document.baseURI);
  return async (name) => {
    const response = await fetch(new URL(name, base));
    if (!response.ok) throw new Error(`${name}: the server answers ${response.status}`);
    return new Uint8Array(await response.arrayBuffer());
  };
}

/** How many threads WebAssembly computes with: one unless the page's headers isolate it. */
export function threads(): number {
  return crossOriginIsolated ? Math.max(1, Math.min(MOST_THREADS, navigator.hardwareConcurrency)) : 1;
}

/** Whether the browser can compute on a graphics processor. */
export async function hasWebGPU(): Promise<boolean> {
  const { gpu } = navigator as unknown as { gpu?: { requestAdapter(): Promise<unknown> } };
  return gpu !== undefined && (await gpu.requestAdapter()) !== null;
}

async function runtime(engine: Engine): Promise<typeof Ort> {
  const file = new URL(RUNTIMES[engine], import.meta.url);
  const ort = (await import(file.href)) as typeof Ort;
  ort.env.wasm.wasmPaths = new URL("./", file).href;
  ort.env.wasm.numThreads = threads();
  return ort;
}

async function open(folder: string, description: Description, engine: Engine): Promise<Network> {
  const form = description.model.forms.find((one) => one.format !== "tflite");
  if (form === undefined) throw new Error("onnxruntime-web runs .onnx and .ort, and the bundle has neither");
  const [ort, model] = await Promise.all([runtime(engine), reader(folder)(form.file)]);
  const session = await ort.InferenceSession.create(model, { executionProviders: [engine] });
  const run = async (inputs: Inputs): Promise<Float32Array> => {
    const feeds: Record<string, Ort.Tensor> = {};
    for (const [name, { data, shape }] of Object.entries(inputs)) {
      feeds[name] =
        data instanceof BigInt64Array ? new ort.Tensor("int64", data, shape) : new ort.Tensor("float32", data, shape);
    }
    const answers = await session.run(feeds, [description.answer.output]);
    return answers[description.answer.output]!.data as Float32Array;
  };
  // A session takes one question at a time; the next one waits, and so does the end.
  let last: Promise<unknown> = Promise.resolve();
  const next = <T>(action: () => Promise<T>): Promise<T> => {
    const result = last.then(action, action);
    last = result;
    return result;
  };
  return { run: (inputs) => next(() => run(inputs)), close: () => next(() => session.release()) };
}
