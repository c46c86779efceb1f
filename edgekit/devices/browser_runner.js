// What runner.py is, in a browser: spec.json says what to do, run() gives the answer. ONNX Runtime lies in ort/.

import * as ort from "./ort/ort.wasm.min.mjs";

// numpy's names, ONNX Runtime's, what holds them, and how numpy writes the type of little-endian bytes.
const TYPES = {
  float32: ["float32", Float32Array, "<f4"], float64: ["float64", Float64Array, "<f8"],
  float16: ["float16", Uint16Array, "<f2"], int64: ["int64", BigInt64Array, "<i8"],
  int32: ["int32", Int32Array, "<i4"], int16: ["int16", Int16Array, "<i2"], int8: ["int8", Int8Array, "|i1"],
  uint8: ["uint8", Uint8Array, "|u1"], bool: ["bool", Uint8Array, "|b1"],
};

async function bytes(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

async function load(subject) {
  const externalData = [];
  for (const [path, file] of Object.entries(subject.beside)) externalData.push({ path, data: await bytes(file) });
  const options = { executionProviders: ["wasm"], graphOptimizationLevel: "all", externalData };
  return ort.InferenceSession.create(await bytes(subject.graph), options);
}

async function feeds(call) {
  const found = {};
  for (const [name, { file, dtype, shape }] of Object.entries(call)) {
    const [type, Holder] = TYPES[dtype];
    found[name] = new ort.Tensor(type, new Holder((await bytes(file)).buffer), shape);
  }
  return found;
}

/** The rule of runner.py's wants_round. */
function wantsRound(done, spent, spec) {
  if (spent >= Math.max(spec.seconds, spec.enough_seconds)) return done < Math.min(spec.rounds, spec.fewest_rounds);
  return done < spec.rounds || (spent < spec.seconds && done < spec.most_rounds);
}

/** Numbers from 0 to 1 by a seed: mulberry32 of Tommy Ettinger, in the public domain. */
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

async function timed(call) {
  const begin = performance.now();
  await call();
  return performance.now() - begin;
}

/** Milliseconds of single inferences, in blocks of subjects in a new order each round: runner.py's measure_latency. */
async function measureLatency(calls, spec) {
  const draw = random(spec.seed);
  const blocks = {};
  for (const [name, call] of Object.entries(calls)) {
    blocks[name] = [];
    for (let index = 0; index < spec.warmup; index++) await call();
  }
  const began = performance.now();
  for (let done = 0; wantsRound(done, (performance.now() - began) / 1e3, spec); done++) {
    const names = Object.keys(calls);
    for (let last = names.length - 1; last > 0; last--) {
      const other = Math.floor(draw() * (last + 1));
      [names[last], names[other]] = [names[other], names[last]];
    }
    for (const name of names) {
      await calls[name](); // not counted, as in runner.py
      const block = [];
      for (let index = 0; index < spec.block; index++) block.push(await timed(calls[name]));
      blocks[name].push(block);
    }
  }
  return blocks;
}

function packed(tensor) {
  const dtype = Object.values(TYPES).find(([type]) => type === tensor.type)[2];
  const content = new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
  let text = "";
  for (let place = 0; place < content.length; place += 4096) {
    text += String.fromCharCode(...content.subarray(place, place + 4096));
  }
  return { dtype, shape: [...tensor.dims], data: btoa(text) };
}

async function outputs(session, calls) {
  const found = [];
  for (const call of calls) {
    const answer = await session.run(await feeds(call));
    found.push(Object.fromEntries(session.outputNames.map((name) => [name, packed(answer[name])])));
  }
  return found;
}

globalThis.run = async () => {
  const spec = await (await fetch("spec.json")).json();
  ort.env.wasm.wasmPaths = new URL("./ort/", document.baseURI).href;
  ort.env.wasm.numThreads = spec.threads;
  ort.env.logLevel = "error";
  const answer = {
    clock: "wall clock",
    runtime_version: ort.env.versions.web,
    host: { machine: "wasm32", cores: String(navigator.hardwareConcurrency), isolated: String(crossOriginIsolated) },
  };
  const sessions = {};
  const began = performance.now();
  try {
    for (const [name, subject] of Object.entries(spec.subjects)) sessions[name] = await load(subject);
  } catch (error) {
    return { refused: String(error.message ?? error).split("\n")[0] };
  }
  answer.load_ms = performance.now() - began;
  if (spec.what === "outputs") {
    const begin = performance.now();
    answer.outputs = {};
    for (const [name, subject] of Object.entries(spec.subjects)) {
      answer.outputs[name] = await outputs(sessions[name], subject.calls);
    }
    answer.run_ms = performance.now() - begin;
    return answer;
  }
  const calls = {};
  for (const [name, subject] of Object.entries(spec.subjects)) {
    const first = await feeds(subject.calls[0]);
    calls[name] = () => sessions[name].run(first);
  }
  if (spec.what === "latency") answer.blocks_ms = await measureLatency(calls, spec);
  else for (const call of Object.values(calls)) for (let index = 0; index < spec.warmup; index++) await call();
  return answer;
};
