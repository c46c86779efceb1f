// A bundle as a model: raw input in, labels with scores out. What runs the network is handed in, so that this file is
// the same in Node, in a browser and on a phone.

import { prepareImage, type ImageStep, type Raw } from "./image.js";
import { Tokenizer } from "./tokenizer.js";

export const BUNDLE_SCHEMA = "edgekit.bundle/1";

/** A tensor of the model: token ids are BigInt64Array, everything else is Float32Array. */
export interface Values {
  data: Float32Array | BigInt64Array;
  shape: number[];
}
export type Inputs = Record<string, Values>;
/** What runs the network. */
export interface Network {
  /** Named tensors in, the numbers of the answer out. */
  run(inputs: Inputs): Promise<Float32Array>;
  /** Gives its memory back. */
  close(): Promise<void>;
}
export type Open = (description: Description) => Promise<Network>;
/** Reads a file of the bundle, by its path from bundle.json. */
export type Read = (name: string) => Promise<Uint8Array>;

export interface Description {
  schema: string;
  name: string;
  task: string;
  model: {
    forms: { file: string; format: "onnx" | "ort" | "tflite"; serves: string }[];
    inputs: { name: string; dtype: string; shape: (number | string)[] }[];
    outputs: { name: string; dtype: string; shape: (number | string)[] }[];
  };
  preprocessing:
    | {
        kind: "text"; compiled: string; original: string; max_length: number;
        ids: string; segments: string | null; mask: string | null;
      }
    | { kind: "image"; input: string; channels: number; steps: ImageStep[] };
  answer: { output: string; activation: "softmax" | "sigmoid" | "none"; labels: string; count: number };
  selftest: string;
  files: Record<string, { size_bytes: number; sha256: string }>;
}

export type Prediction = { label: string; score: number };

export class Model {
  private constructor(
    private readonly description: Description,
    private readonly network: Network,
    readonly labels: string[],
    private readonly tokenizer: Tokenizer | undefined,
  ) {}

  /** Load a bundle; `open` makes what runs the network of its description. Whoever loads it closes it. */
  static async load(read: Read, open: Open): Promise<Model> {
    const description = parse<Description>(await read("bundle.json"));
    if (description.schema !== BUNDLE_SCHEMA) {
      throw new Error(`bundle.json has the schema ${description.schema}; this reads ${BUNDLE_SCHEMA}`);
    }
    const labels = decode(await read(description.answer.labels)).split("\n").slice(0, -1);
    if (labels.length !== description.answer.count) {
      throw new Error(`${description.answer.labels} has ${labels.length} lines, not ${description.answer.count}`);
    }
    const { preprocessing } = description;
    const tokenizer =
      preprocessing.kind === "text" ? new Tokenizer(parse(await read(preprocessing.compiled))) : undefined;
    return new Model(description, await open(description), labels, tokenizer);
  }

  /** Labels with scores of a text, of two, or of an image; the best first. */
  async predict(raw: string | Raw, pair?: string): Promise<Prediction[]> {
    const scores = this.scores(await this.output(this.prepare(raw, pair)));
    return this.labels.map((label, index) => ({ label, score: scores[index]! })).sort((a, b) => b.score - a.score);
  }

  /** The model's answer to prepared inputs, one number a class. */
  output(inputs: Inputs): Promise<Float32Array> {
    return this.network.run(inputs);
  }

  /** Gives the network's memory back; the model answers nothing after that. */
  close(): Promise<void> {
    return this.network.close();
  }

  /** What the model takes, by name, with a batch of one. */
  prepare(raw: string | Raw, pair?: string): Inputs {
    const { preprocessing } = this.description;
    if (preprocessing.kind === "image") {
      if (typeof raw === "string" || pair !== undefined) {
        throw new Error("the model takes images, and was given a text");
      }
      return { [preprocessing.input]: prepareImage(raw, preprocessing.channels, preprocessing.steps) };
    }
    if (typeof raw !== "string") throw new Error("the model takes texts, and was given an image");
    const { ids, segments } = this.tokenizer!.encode(raw, pair);
    const inputs: Inputs = { [preprocessing.ids]: tensor(ids) };
    if (preprocessing.segments !== null) inputs[preprocessing.segments] = tensor(segments);
    if (preprocessing.mask !== null) inputs[preprocessing.mask] = tensor(ids.map(() => 1));
    return inputs;
  }

  /** Scores of the classes. */
  private scores(output: Float32Array): number[] {
    const values = Array.from(output);
    const { activation } = this.description.answer;
    if (activation === "none") return values;
    if (activation === "sigmoid") return values.map((value) => 1 / (1 + Math.exp(-value)));
    const largest = Math.max(...values);
    const grown = values.map((value) => Math.exp(value - largest));
    const sum = grown.reduce((total, value) => total + value, 0);
    return grown.map((value) => value / sum);
  }
}

function tensor(numbers: number[]): Values {
  return { data: BigInt64Array.from(numbers, BigInt), shape: [1, numbers.length] };
}

export function decode(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
}

export function parse<T>(bytes: Uint8Array): T {
  return JSON.parse(decode(bytes)) as T;
}
