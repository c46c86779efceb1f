// The demonstration page: a sentence or an image in, labels out, how long it took here, and what the self-test says.

import type { Model, Prediction } from "./model.js";
import type { Raw } from "./image.js";
import { hasWebGPU, load, reader, selfTestOf, threads, type Engine } from "./web.js";

const FOLDER = "bundle/";
const MOST_LABELS = 5;
const EXAMPLES = 3;
const PICTURES = 5;
const RUNS = 20; // of which the middle is shown
const KEPT = "edgekit-model"; // as the service worker calls what it keeps
const NAMES: Record<Engine, string> = { wasm: "WebAssembly", webgpu: "WebGPU" };

interface About {
  name: string;
  task: string;
  target: string | null;
  model: { precision: string; forms: { file: string; format: string }[] };
  preprocessing: { kind: "text" | "image"; channels?: number };
  answer: { activation: string };
  selftest: string;
  files: Record<string, { size_bytes: number }>;
}
interface Sample {
  text: string | null;
  pair: string | null;
  image: string | null;
  width: number | null;
  height: number | null;
}

const read = reader(FOLDER);
let model: Promise<Model> | undefined;
let shown: Raw | undefined; // the image that was asked about last
let about: About;
let samples: Sample[];
let asked = 0; // counts questions, so that an answer that comes too late is not shown

/** What was measured on this page, for a program that drives the browser. */
const record: Record<string, unknown> = { schema: "edgekit.page/1" };
Object.assign(globalThis, { edgekitRecord: record });

function element<T extends HTMLElement = HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

async function json<T>(name: string): Promise<T> {
  return JSON.parse(new TextDecoder().decode(await read(name))) as T;
}

async function answer(raw: string | Raw): Promise<void> {
  const question = ++asked;
  const predictions = await (await model!).predict(raw);
  if (question !== asked) return;
  showLabels(predictions);
  if (!("first_answer_ms" in record)) {
    record["first_answer_ms"] = performance.now(); // the clock starts when the page is opened
    element("first").textContent = milliseconds(performance.now());
  }
  const times: number[] = [];
  for (let run = 0; run < RUNS; run++) {
    const used = await model!;
    const begin = performance.now();
    await used.predict(raw);
    times.push(performance.now() - begin);
    if (question !== asked) return;
  }
  record["answers_ms"] = [...times];
  times.sort((one, other) => one - other);
  element("median").textContent = milliseconds((times[RUNS / 2 - 1]! + times[RUNS / 2]!) / 2);
  const [fast, slow] = [times[0]!, times[RUNS - 1]!].map((time) => (time < 10 ? time.toFixed(1) : time.toFixed(0)));
  element("spread").textContent = `${RUNS} runs: ${fast} to ${slow} ms`;
}

function showLabels(predictions: Prediction[]): void {
  const shares = about.answer.activation !== "none";
  const entries = predictions.slice(0, MOST_LABELS).map(({ label, score }) => {
    const entry = document.createElement("li");
    const [bar, name, value] = ["i", "span", "b"].map((kind) => document.createElement(kind));
    bar!.style.width = shares ? `${100 * score}%` : "0";
    name!.textContent = label;
    value!.textContent = shares ? `${(100 * score).toFixed(1)} %` : score.toPrecision(4);
    entry.append(bar!, name!, value!);
    return entry;
  });
  element("labels").replaceChildren(...entries);
  element("answer").hidden = false;
}

function milliseconds(time: number): string {
  if (time >= 1000) return `${(time / 1000).toFixed(1)} s`;
  return `${time < 100 ? time.toPrecision(2) : time.toFixed(0)} ms`;
}

function askForText(): void {
  const field = element<HTMLTextAreaElement>("sentence");
  let waiting = 0;
  field.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => void answer(field.value).catch(failed), 150);
  });
  const texts = samples.flatMap(({ text, pair }) => (text?.trim() && pair === null ? [text] : [])).slice(0, EXAMPLES);
  const buttons = texts.map((text) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.addEventListener("click", () => {
      field.value = text;
      void answer(text).catch(failed);
    });
    return button;
  });
  element("examples").replaceChildren(...buttons);
  element("text").hidden = false;
  field.value = texts[0] ?? "";
}

async function askForImage(): Promise<void> {
  const drop = element("drop");
  const over = (on: boolean) => (event: DragEvent): void => {
    event.preventDefault();
    drop.toggleAttribute("data-over", on);
  };
  drop.addEventListener("dragover", over(true));
  drop.addEventListener("dragleave", over(false));
  drop.addEventListener("drop", (event) => {
    over(false)(event);
    const file = event.dataTransfer?.files[0];
    if (file) void answerFile(file).catch(failed);
  });
  const field = element<HTMLInputElement>("file");
  field.addEventListener("change", () => {
    const file = field.files?.[0];
    if (file) void answerFile(file).catch(failed);
  });
  const raws = await Promise.all(samples.slice(0, PICTURES).map(rawOf));
  const buttons = raws.map((raw, number) => {
    const button = document.createElement("button");
    const picture = document.createElement("canvas");
    draw(picture, raw);
    button.type = "button";
    button.setAttribute("aria-label", `Sample ${number + 1}`);
    button.append(picture);
    button.addEventListener("click", () => void answerPixels(raw).catch(failed));
    return button;
  });
  element("samples").replaceChildren(...buttons);
  element("image").hidden = false;
}

async function rawOf(sample: Sample): Promise<Raw> {
  const data = await read(sample.image!);
  const [width, height] = [sample.width!, sample.height!];
  return { width, height, channels: data.length / (width * height), data };
}

async function answerFile(file: File): Promise<void> {
  const bitmap = await createImageBitmap(file);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { alpha: false })!;
  context.fillStyle = "white"; // what shows through where the image is transparent
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const data = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) data.set(rgba.subarray(from, from + 3), to);
  await answerPixels({ width: bitmap.width, height: bitmap.height, channels: 3, data });
}

async function answerPixels(raw: Raw): Promise<void> {
  shown = raw;
  const picture = element<HTMLCanvasElement>("picture");
  draw(picture, raw);
  picture.hidden = false;
  element("hint").textContent = "Drop another image here, or choose one";
  await answer(raw);
}

function draw(canvas: HTMLCanvasElement, { width, height, channels, data }: Raw): void {
  [canvas.width, canvas.height] = [width, height];
  const rgba = new Uint8ClampedArray(width * height * 4).fill(255);
  for (let pixel = 0; pixel < width * height; pixel++) {
    for (let colour = 0; colour < 3; colour++) {
      rgba[pixel * 4 + colour] = data[pixel * channels + (channels === 3 ? colour : 0)]!;
    }
  }
  canvas.getContext("2d")!.putImageData(new ImageData(rgba, width, height), 0, 0);
}

async function use(engine: Engine): Promise<void> {
  const before = model;
  const next = load(FOLDER, engine);
  model ??= next; // what is asked meanwhile waits for the first model, and is answered by the one before a second
  await next;
  model = next;
  await (await before)?.close();
  record["engine"] = engine;
  record["threads"] = threads();
  element("engine").textContent = NAMES[engine];
  const count = threads();
  element("threads").textContent =
    engine === "webgpu" ? "the graphics processor" : `SIMD, ${count} thread${count === 1 ? "" : "s"}`;
}

/** Answer what is there, or a sample, so that the page shows something at once. */
async function begin(): Promise<void> {
  if (about.preprocessing.kind === "text") await answer(element<HTMLTextAreaElement>("sentence").value);
  else await answerPixels(shown ?? (await rawOf(samples[0]!)));
}

async function test(engine: Engine): Promise<void> {
  const section = element("selftest");
  section.dataset["state"] = "running";
  element("verdict").textContent = "Self-test is running";
  element("detail").textContent = `${Object.keys(about.files).length} files, ${samples.length} samples`;
  const problems = await selfTestOf(FOLDER, engine);
  element("verdict").textContent = problems.length === 0 ? "Self-test passed" : "Self-test failed";
  const whole = `${Object.keys(about.files).length} files are whole, and ${samples.length} samples`;
  element("detail").textContent =
    problems.length === 0
      ? `${whole} give the answers that they gave where the model was made.`
      : "The bundle is not what it was, or answers otherwise here:";
  const entries = problems.map((problem) => Object.assign(document.createElement("li"), { textContent: problem }));
  element("problems").replaceChildren(...entries);
  section.dataset["state"] = problems.length === 0 ? "passed" : "failed";
  record["problems"] = problems;
}

async function offerOther(engine: Engine): Promise<void> {
  if (!(await hasWebGPU())) return;
  const other: Engine = engine === "wasm" ? "webgpu" : "wasm";
  const button = element<HTMLButtonElement>("other");
  button.textContent = `Run on ${NAMES[other]}`;
  button.onclick = () => void run(other).catch(failed);
  button.hidden = false;
}

async function run(engine: Engine): Promise<void> {
  await use(engine);
  await begin();
  await test(engine);
  await offerOther(engine);
}

async function main(): Promise<void> {
  about = await json<About>("bundle.json");
  document.title = element("name").textContent = about.name;
  const said = [about.task.replace("-", " "), about.target === null ? "" : `compressed for ${about.target}`];
  element("about").textContent = said.filter(Boolean).join(", ");
  const form = about.model.forms[0]!;
  record["model_bytes"] = about.files[form.file]!.size_bytes;
  element("size").textContent = `${(about.files[form.file]!.size_bytes / 1e6).toPrecision(3)} MB`;
  element("precision").textContent = `${about.model.precision.toUpperCase()}, .${form.format}`;
  samples = (await json<{ cases: Sample[] }>(about.selftest)).cases;
  if (about.preprocessing.kind === "text") askForText();
  else await askForImage();
  for (const id of ["ask", "facts"]) element(id).hidden = false;
  await run("wasm");
  await keep();
}

/** Keep all that was loaded, so that the page opens without a network; what a service worker gives back. */
async function keep(): Promise<void> {
  if (!("serviceWorker" in navigator)) return;
  await navigator.serviceWorker.register("service-worker.js");
  await navigator.serviceWorker.ready;
  const loaded = performance.getEntriesByType("resource").map(({ name }) => name);
  await (await caches.open(KEPT)).addAll([...new Set([location.href, ...loaded])]);
  element("kept").hidden = false;
}

/** A bundle that does not load: the self-test tells why. */
async function failed(error: unknown): Promise<void> {
  const problems = await selfTestOf(FOLDER).catch(() => []);
  element("selftest").dataset["state"] = "failed";
  element("verdict").textContent = "The model does not run here";
  element("detail").textContent = String(error);
  const entries = problems.map((problem) => Object.assign(document.createElement("li"), { textContent: problem }));
  element("problems").replaceChildren(...entries);
}

main().catch(failed);
