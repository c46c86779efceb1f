// SHA-256 of bytes (FIPS 180-4), for where the platform's own is not to be had: in pages that are not served by https,
// and in React Native.

const ROUNDS = Array.from({ length: 64 }, (_, place) => fraction(Math.cbrt(prime(place))));
const START = Array.from({ length: 8 }, (_, place) => fraction(Math.sqrt(prime(place))));
const BLOCK = 64;

/** In hexadecimal. */
export function sha256(bytes: Uint8Array): string {
  const state = Uint32Array.from(START);
  const words = new Uint32Array(64);
  const whole = bytes.length - (bytes.length % BLOCK);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let place = 0; place < whole; place += BLOCK) mix(state, words, view, place);
  const rest = bytes.length - whole;
  const end = new Uint8Array(rest < BLOCK - 8 ? BLOCK : 2 * BLOCK);
  end.set(bytes.subarray(whole));
  end[rest] = 0x80;
  const last = new DataView(end.buffer);
  last.setUint32(end.length - 8, Math.floor(bytes.length / 2 ** 29));
  last.setUint32(end.length - 4, (bytes.length << 3) >>> 0);
  for (let place = 0; place < end.length; place += BLOCK) mix(state, words, last, place);
  return Array.from(state, (word) => word.toString(16).padStart(8, "0")).join("");
}

function mix(state: Uint32Array, words: Uint32Array, view: DataView, place: number): void {
  for (let t = 0; t < 16; t++) words[t] = view.getUint32(place + 4 * t);
  for (let t = 16; t < 64; t++) {
    const [early, late] = [words[t - 15]!, words[t - 2]!];
    const small = turn(early, 7) ^ turn(early, 18) ^ (early >>> 3);
    const large = turn(late, 17) ^ turn(late, 19) ^ (late >>> 10);
    words[t] = words[t - 16]! + small + words[t - 7]! + large;
  }
  let [a, b, c, d, e, f, g, h] = state as unknown as [number, number, number, number, number, number, number, number];
  for (let t = 0; t < 64; t++) {
    const one = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + ROUNDS[t]! + words[t]!) | 0;
    const two = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + one) | 0;
    d = c;
    c = b;
    b = a;
    a = (one + two) | 0;
  }
  [a, b, c, d, e, f, g, h].forEach((value, index) => (state[index] = state[index]! + value));
}

function turn(word: number, by: number): number {
  return (word >>> by) | (word << (32 - by));
}

/** The first 32 bits behind the point. */
function fraction(value: number): number {
  return Math.floor((value - Math.floor(value)) * 2 ** 32);
}

function prime(place: number): number {
  for (let candidate = 2, found = 0; ; candidate++) {
    let divisor = 2;
    while (divisor * divisor <= candidate && candidate % divisor !== 0) divisor++;
    if (divisor * divisor > candidate && found++ === place) return candidate;
  }
}
