// React Native: files from the app itself, the network in onnxruntime-react-native.

import "text-encoding-polyfill"; // for a Hermes without TextDecoder; this one refuses damaged UTF-8, as it has to
import * as files from "@dr.pogodin/react-native-fs";
import { toByteArray } from "base64-js";
import { InferenceSession, Tensor } from "onnxruntime-react-native";
import { Platform } from "react-native";
import { Model, type Description, type Inputs, type Network } from "./model";
import { selfTest } from "./selftest";
import { sha256 } from "./sha256";

export type { Prediction } from "./model";
export type { Raw } from "./image";

/** The bundle in a folder of the app: of its assets on Android, of its resources on iOS. */
export function load(folder = "bundle"): Promise<Model> {
  return Model.load(reader(folder), (description) => open(folder, description));
}

/** What is wrong with the bundle, one line each; nothing when all is well. */
export function selfTestOf(folder = "bundle"): Promise<string[]> {
  const hash = async (bytes: Uint8Array): Promise<string> => sha256(bytes);
  return selfTest(reader(folder), hash, (description) => open(folder, description));
}

function reader(folder: string): (name: string) => Promise<Uint8Array> {
  return async (name) => {
    const text =
      Platform.OS === "android"
        ? await files.readFileAssets(`${folder}/${name}`, "base64")
        : await files.readFile(`${files.MainBundlePath}/${folder}/${name}`, "base64");
    return toByteArray(text);
  };
}

async function open(folder: string, description: Description): Promise<Network> {
  const form = description.model.forms.find((one) => one.format !== "tflite");
  if (form === undefined) throw new Error("ONNX Runtime runs .onnx and .ort, and the bundle has neither");
  const session = await InferenceSession.create(await reader(folder)(form.file));
  const run = async (inputs: Inputs): Promise<Float32Array> => {
    const feeds: Record<string, Tensor> = {};
    for (const [name, { data, shape }] of Object.entries(inputs)) {
      feeds[name] =
        data instanceof BigInt64Array ? new Tensor("int64", data, shape) : new Tensor("float32", data, shape);
    }
    const answers = await session.run(feeds, [description.answer.output]);
    return answers[description.answer.output]!.data as Float32Array;
  };
  return { run, close: () => session.release() };
}
