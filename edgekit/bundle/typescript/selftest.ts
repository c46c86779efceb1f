// The self-test of a bundle: is every file whole, and does the model answer here as it did where it was made?

import { decode, Model, parse, type Description, type Inputs, type Open, type Read } from "./model.js";
import type { Raw } from "./image.js";

interface Stored {
  file: string;
  dtype: "int64" | "float32";
  shape: number[];
}
interface Case {
  text: string | null;
  pair: string | null;
  image: string | null;
  width: number | null;
  height: number | null;
  inputs: Record<string, Stored>;
  output: number[];
  label: string | null;
}
interface Samples {
  tolerance: number;
  input_tolerance: number;
  cases: Case[];
}

/** SHA-256 of bytes, in hexadecimal: every platform has its own. */
export type Hash = (bytes: Uint8Array) => Promise<string>;

/**
 * What is wrong, one line each; nothing when all is well. Files are looked at first, so that a damaged one is named, and
 * not what follows from it.
 */
export async function selfTest(read: Read, hash: Hash, open: Open): Promise<string[]> {
  let description: Description;
  try {
    description = parse<Description>(await read("bundle.json"));
  } catch (error) {
    return [`bundle.json: ${String(error)}`];
  }
  const problems = [...(await fileProblems(read, hash, description)), ...(await labelProblems(read, description))];
  if (problems.length > 0) return problems;
  const samples = parse<Samples>(await read(description.selftest));
  const model = await Model.load(read, open);
  const scale = Math.max(...samples.cases.flatMap(({ output }) => output.map(Math.abs))) || 1;
  try {
    for (const [number, sample] of samples.cases.entries()) {
      const found = await caseProblems(read, model, sample, samples, scale);
      problems.push(...found.map((problem) => `${description.selftest}: sample ${number}: ${problem}`));
    }
  } finally {
    await model.close();
  }
  return problems;
}

async function fileProblems(read: Read, hash: Hash, description: Description): Promise<string[]> {
  const problems: string[] = [];
  for (const [name, record] of Object.entries(description.files)) {
    let bytes: Uint8Array;
    try {
      bytes = await read(name);
    } catch {
      problems.push(`${name}: missing`);
      continue;
    }
    if (bytes.length !== record.size_bytes) {
      problems.push(`${name}: has ${bytes.length} bytes, not ${record.size_bytes}`);
    } else if ((await hash(bytes)) !== record.sha256) {
      problems.push(`${name}: changed (its SHA-256 is another one)`);
    }
  }
  return problems;
}

async function labelProblems(read: Read, description: Description): Promise<string[]> {
  const { labels, count } = description.answer;
  const found = await read(labels).then((bytes) => decode(bytes).split("\n").length - 1, () => 0);
  return found === count ? [] : [`${labels}: ${found} labels, and the model has ${count} classes`];
}

async function caseProblems(
  read: Read, model: Model, sample: Case, samples: Samples, scale: number,
): Promise<string[]> {
  const inputs = model.prepare(await rawOf(read, sample), sample.pair ?? undefined);
  const wrong = await inputProblem(read, inputs, sample, samples.input_tolerance); // inputs are the stored ones then
  if (wrong !== undefined) return [wrong];
  const output = await model.output(inputs);
  const differences = sample.output.map((value, index) => Math.abs(output[index]! - value) / scale);
  const difference = Math.max(...differences);
  const problems: string[] = [];
  if (!(difference <= samples.tolerance)) {
    problems.push(
      `the output differs by ${difference.toPrecision(3)} of the largest answer; allowed: ${samples.tolerance}`);
  }
  const best = output.reduce((place, value, index) => (value > output[place]! ? index : place), 0);
  const label = model.labels[best];
  if (sample.label !== null && sample.label !== label) {
    problems.push(`the label is ${JSON.stringify(label)}, not ${JSON.stringify(sample.label)}`);
  }
  return problems;
}

async function rawOf(read: Read, sample: Case): Promise<string | Raw> {
  if (sample.text !== null) return sample.text;
  const data = await read(sample.image!);
  const [width, height] = [sample.width!, sample.height!];
  return { width, height, channels: data.length / (width * height), data };
}

/** What is wrong with a sample's inputs; where nothing is, they become the stored ones, so that an image that is a step of
 * a pixel away does not count against the model. */
async function inputProblem(
  read: Read, inputs: Inputs, sample: Case, tolerance: number,
): Promise<string | undefined> {
  for (const [name, stored] of Object.entries(sample.inputs)) {
    const given = inputs[name];
    if (given === undefined || given.shape.join() !== stored.shape.join()) {
      return `${name} has the shape [${given?.shape.join() ?? ""}], not [${stored.shape.join()}]`;
    }
    const bytes = await read(stored.file);
    const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    const expected = stored.dtype === "int64" ? new BigInt64Array(buffer) : new Float32Array(buffer);
    let difference = 0;
    for (let index = 0; index < expected.length; index++) {
      difference = Math.max(difference, Math.abs(Number(given.data[index]) - Number(expected[index])));
    }
    const allowed = stored.dtype === "int64" ? 0 : tolerance;
    if (!(difference <= allowed)) return `${name} differs by ${difference.toPrecision(3)}; allowed: ${allowed}`;
    inputs[name] = { data: expected, shape: stored.shape };
  }
  return undefined;
}
