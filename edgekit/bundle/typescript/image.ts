// Images to a model's input, by the steps of bundle.json. Resizing is Pillow's, in integers of 8 bits: the same pixels.

/** Pixels row by row, 8 bits a channel: 3 channels (RGB) or 1. */
export interface Raw {
  width: number;
  height: number;
  channels: number;
  data: Uint8Array;
}

export type ImageStep =
  | { op: "resize"; width: number; height: number; resample: string }
  | { op: "resize_shorter"; size: number; least_width: number; least_height: number; resample: string }
  | { op: "crop"; width: number; height: number; rounding: "down" | "even" }
  | { op: "scale"; factor: number }
  | { op: "normalize"; mean: number[]; std: number[] }
  | { op: "layout"; order: "NCHW" | "NHWC" };

const PRECISION_BITS = 22; // 32 - 8 - 2, of Pillow's Resample.c
const FILTERS: Record<string, { support: number; weight: (x: number) => number }> = {
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: { support: 1, weight: hamming },
  bicubic: { support: 2, weight: bicubic },
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** The input of one image, with a batch of one; its shape. */
export function prepareImage(raw: Raw, channels: number, steps: ImageStep[]): { data: Float32Array; shape: number[] } {
  let image = withChannels(checked(raw), channels);
  let values: Float32Array | undefined;
  let shape = [image.height, image.width, channels];
  for (const step of steps) {
    if (step.op === "resize") image = resize(image, step.width, step.height, step.resample);
    else if (step.op === "resize_shorter") image = resizeShorter(image, step);
    else if (step.op === "crop") image = crop(image, step);
    else {
      values ??= Float32Array.from(image.data);
      shape = [image.height, image.width, channels];
      if (step.op === "scale") values = values.map((value) => value * Math.fround(step.factor));
      else if (step.op === "normalize") normalize(values, channels, step.mean, step.std);
      else if (step.op === "layout") [values, shape] = arrange(values, shape, step.order);
      else throw new Error(`the step ${JSON.stringify((step as { op: string }).op)} is unknown`);
    }
  }
  return { data: values!, shape: [1, ...shape] };
}

function checked(raw: Raw): Raw {
  const { width, height, channels, data } = raw;
  const sound = Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0;
  if (!sound || (channels !== 1 && channels !== 3) || data.length !== width * height * channels) {
    throw new Error(
      `${data.length} bytes for ${width} x ${height} pixels of ${channels} channels; 1 (grey) or 3 (RGB), a byte each`);
  }
  return raw;
}

/** RGB or grey, as the model takes it; grey as Pillow makes it. */
function withChannels(raw: Raw, channels: number): Raw {
  if (raw.channels === channels) return raw;
  const count = raw.width * raw.height;
  const data = new Uint8Array(count * channels);
  for (let pixel = 0; pixel < count; pixel++) {
    if (channels === 3) data.fill(raw.data[pixel]!, pixel * 3, pixel * 3 + 3);
    else {
      const [red, green, blue] = raw.data.subarray(pixel * 3, pixel * 3 + 3) as unknown as [number, number, number];
      data[pixel] = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16;
    }
  }
  return { ...raw, channels, data };
}

function resizeShorter(image: Raw, step: Extract<ImageStep, { op: "resize_shorter" }>): Raw {
  const short = Math.min(image.width, image.height);
  const [width, height] = [image.width, image.height].map((side) => Math.floor((step.size * side) / short));
  return resize(image, Math.max(width!, step.least_width), Math.max(height!, step.least_height), step.resample);
}

/** The centre; what lies outside of the image is black. */
function crop(image: Raw, step: Extract<ImageStep, { op: "crop" }>): Raw {
  const { width, height } = step;
  const place = (rest: number): number => (step.rounding === "down" ? Math.floor(rest / 2) : halfToEven(rest));
  const [left, top] = [place(image.width - width), place(image.height - height)];
  const data = new Uint8Array(width * height * image.channels);
  for (let y = Math.max(0, -top); y < Math.min(height, image.height - top); y++) {
    const begin = Math.max(0, -left);
    const end = Math.min(width, image.width - left);
    const from = ((y + top) * image.width + left) * image.channels;
    const row = image.data.subarray(from + begin * image.channels, from + end * image.channels);
    data.set(row, (y * width + begin) * image.channels);
  }
  return { width, height, channels: image.channels, data };
}

function halfToEven(rest: number): number {
  const half = Math.floor(rest / 2);
  return rest % 2 !== 0 && half % 2 !== 0 ? half + 1 : half;
}

function normalize(values: Float32Array, channels: number, mean: number[], std: number[]): void {
  for (let index = 0; index < values.length; index++) {
    const channel = mean.length === 1 ? 0 : index % channels;
    values[index] = Math.fround(values[index]! - Math.fround(mean[channel]!)) / Math.fround(std[channel]!);
  }
}

function arrange(values: Float32Array, shape: number[], order: string): [Float32Array, number[]] {
  if (order === "NHWC") return [values, shape];
  const [height, width, channels] = shape as [number, number, number];
  const found = new Float32Array(values.length);
  for (let pixel = 0; pixel < height * width; pixel++) {
    for (let channel = 0; channel < channels; channel++) {
      found[channel * height * width + pixel] = values[pixel * channels + channel]!;
    }
  }
  return [found, [channels, height, width]];
}

function resize(image: Raw, width: number, height: number, resample: string): Raw {
  if (image.width === width && image.height === height) return image;
  if (resample === "nearest") return resizeNearest(image, width, height);
  const down = (one: Raw): Raw => transposed(resizeRows(transposed(one), height, resample));
  const less = image.height - height;
  const first = less > 0 && less > 2 * (image.width - width) ? down(image) : image; // as Pillow 13 chooses
  const across = first.width === width ? first : resizeRows(first, width, resample);
  return across.height === height ? across : down(across);
}

function resizeNearest(image: Raw, width: number, height: number): Raw {
  const columns = nearest(image.width, width);
  const rows = nearest(image.height, height);
  const { channels } = image;
  const data = new Uint8Array(width * height * channels);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (rows[y]! * image.width + columns[x]!) * channels;
      data.set(image.data.subarray(from, from + channels), (y * width + x) * channels);
    }
  }
  return { width, height, channels, data };
}

/** Places are added up, not multiplied, as Pillow does it. */
function nearest(size: number, wanted: number): number[] {
  const scale = size / wanted;
  let place = scale * 0.5;
  return Array.from({ length: wanted }, () => {
    const found = Math.floor(place);
    place += scale;
    return found;
  });
}

interface Weights {
  first: number;
  weights: number[];
}

/** For each new pixel the old ones that it covers, with weights of 22 bits: `precompute_coeffs` of Pillow. */
function weightsFor(size: number, wanted: number, resample: string): Weights[] {
  const filter = FILTERS[resample];
  if (filter === undefined) throw new Error(`the filter ${JSON.stringify(resample)} is unknown`);
  const scale = size / wanted;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  return Array.from({ length: wanted }, (_, place) => {
    const center = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(size, Math.trunc(center + support + 0.5));
    const inverse = 1 / stretch;
    const exact: number[] = [];
    for (let x = 0; x < last - first; x++) exact.push(filter.weight((x + first - center + 0.5) * inverse));
    const sum = exact.reduce((total, weight) => total + weight, 0);
    const weights = exact.map((weight) => {
      const share = (sum === 0 ? weight : weight / sum) * (1 << PRECISION_BITS);
      return Math.trunc(share < 0 ? share - 0.5 : share + 0.5);
    });
    return { first, weights };
  });
}

function resizeRows(image: Raw, width: number, resample: string): Raw {
  const { height, channels } = image;
  const data = new Uint8Array(width * height * channels);
  const all = weightsFor(image.width, width, resample);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const { first, weights } = all[x]!;
      for (let channel = 0; channel < channels; channel++) {
        let sum = 1 << (PRECISION_BITS - 1);
        let from = (y * image.width + first) * channels + channel;
        for (const weight of weights) {
          sum += image.data[from]! * weight;
          from += channels;
        }
        const value = Math.floor(sum / (1 << PRECISION_BITS));
        data[(y * width + x) * channels + channel] = value < 0 ? 0 : value > 255 ? 255 : value;
      }
    }
  }
  return { width, height, channels, data };
}

function transposed(image: Raw): Raw {
  const { width, height, channels } = image;
  const data = new Uint8Array(image.data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < channels; channel++) {
        data[(x * height + y) * channels + channel] = image.data[(y * width + x) * channels + channel]!;
      }
    }
  }
  return { width: height, height: width, channels, data };
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

function hamming(x: number): number {
  const distance = Math.abs(x);
  if (distance === 0) return 1;
  return distance >= 1 ? 0 : sinc(distance) * (0.54 + 0.46 * Math.cos(distance * Math.PI));
}

function bicubic(x: number): number {
  const a = -0.5;
  const d = Math.abs(x);
  if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
}
