// node dist/cli.js FOLDER TEXT...             labels of texts
// node dist/cli.js FOLDER FILE WIDTH HEIGHT   labels of an image: RGB of 8 bits a channel, no header
// node dist/cli.js FOLDER                     the self-test

import { readFile } from "node:fs/promises";
import { load, selfTestOf } from "./node.js";

async function main(folder: string | undefined, inputs: string[]): Promise<number> {
  if (folder === undefined) {
    console.error("usage: node dist/cli.js FOLDER [TEXT... | FILE WIDTH HEIGHT]");
    return 2;
  }
  if (inputs.length === 0) {
    const problems = await selfTestOf(folder);
    console.log(problems.length === 0 ? "self-test passed" : problems.join("\n"));
    return problems.length === 0 ? 0 : 1;
  }
  const model = await load(folder);
  const [file, width, height] = [inputs[0]!, Number(inputs[1]), Number(inputs[2])];
  const raws = inputs.length === 3 && width > 0 && height > 0 ? [await image(file, width, height)] : inputs;
  for (const raw of raws) {
    const [best] = await model.predict(raw);
    console.log(`${best!.label}\t${best!.score.toFixed(4)}`);
  }
  await model.close();
  return 0;
}

async function image(file: string, width: number, height: number) {
  const data = await readFile(file);
  return { width, height, channels: data.length / (width * height), data };
}

const [folder, ...inputs] = process.argv.slice(2);
main(folder, inputs).then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(String(error));
    process.exit(1);
  },
);
