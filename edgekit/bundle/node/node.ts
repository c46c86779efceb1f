// Node: files from a folder, the network in onnxruntime-node.

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { Model, type Description, type Inputs, type Network } from "./model.js";
import { selfTest } from "./selftest.js";

export type { Prediction } from "./model.js";
export type { Raw } from "./image.js";

/** The bundle in a folder, the one with bundle.json. */
export function load(folder: string): Promise<Model> {
  return Model.load(reader(folder), (description) => open(folder, description));
}

/** What is wrong with the bundle in a folder, one line each; nothing when all is well. */
export function selfTestOf(folder: string): Promise<string[]> {
  const hash = async (bytes: Uint8Array): Promise<string> => createHash("sha256").update(bytes).digest("hex");
  return selfTest(reader(folder), hash, (description) => open(folder, description));
}

function reader(folder: string): (name: string) => Promise<Uint8Array> {
  return (name) => readFile(join(folder, name));
}

async function open(folder: string, description: Description): Promise<Network> {
  const form = description.model.forms.find((one) => one.format !== "tflite");
  if (form === undefined) throw new Error("onnxruntime-node runs .onnx and .ort, and the bundle has neither");
  const session = await ort.InferenceSession.create(join(folder, form.file), { intraOpNumThreads: 1 });
  const run = async (inputs: Inputs): Promise<Float32Array> => {
    const feeds: Record<string, ort.Tensor> = {};
    for (const [name, { data, shape }] of Object.entries(inputs)) {
      feeds[name] =
        data instanceof BigInt64Array ? new ort.Tensor("int64", data, shape) : new ort.Tensor("float32", data, shape);
    }
    const answers = await session.run(feeds, [description.answer.output]);
    return answers[description.answer.output]!.data as Float32Array;
  };
  return { run, close: () => session.release() };
}
