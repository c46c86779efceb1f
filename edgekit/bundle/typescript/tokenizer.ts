// Texts to token ids, by the compiled tokenizer of a bundle (tokenizer/compiled.json).
// A port of edgekit's reference/tokenizer.py, function by function; it asks the language for no Unicode.
//
//   text -> parts between added tokens -> normalize -> split into words -> pieces of each word -> frame -> truncate

import { codeOf, makeNormalizer, Table, type Run, type Step } from "./normalizer.js";

export const TOKENIZER_SCHEMA = "edgekit.tokenizer/1";
const UNKNOWN_PENALTY = 10; // K_UNK_PENALTY of SentencePiece
const MOST_WORDS = 10_000; // that are remembered, as many as the library tokenizers remembers by default
const CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]; // of GPT-2's pattern, in its order

type Pieces = (word: string) => number[];
type ClassName = "space" | "punctuation" | "letter" | "number" | "word" | "numeric";
type Split =
  | { op: "space" }
  | { op: "isolate"; class: ClassName }
  | { op: "runs" }
  | { op: "metaspace"; mark: string; prepend: "always" | "first" | "never"; split: boolean }
  | { op: "gpt2"; prefix_space: boolean; pattern: boolean };
type Frame = ({ ids: number[]; segment: number } | { text: number; segment: number })[];
type Vocabulary = (string | null)[];
type ModelProgram =
  | { type: "wordpiece"; vocab: Vocabulary; unknown: number; prefix: string; longest_word: number }
  | { type: "wordlevel"; vocab: Vocabulary; unknown: number }
  | {
      type: "bpe"; vocab: Vocabulary; merges: [string, string][]; unknown: number | null; fuse_unknown: boolean;
      byte_fallback: boolean; prefix: string; suffix: string; ignore_merges: boolean;
    }
  | { type: "unigram"; vocab: Vocabulary; scores: number[]; unknown: number; byte_fallback: boolean };
interface Added {
  content: string; id: number; normalized: boolean; single_word: boolean; lstrip: boolean; rstrip: boolean;
}
export interface TokenizerProgram {
  schema: string;
  max_length: number;
  pad: number;
  added: Added[];
  normalize: Step[];
  split: Split[];
  model: ModelProgram;
  frame: { single: Frame; pair: Frame };
  classes: Partial<Record<ClassName, Run[]>>;
}

export class Tokenizer {
  private readonly normalize: (text: string) => string;
  private readonly pieces: Pieces;
  private readonly classes = new Map<string, Table<true>>();
  private readonly words = new Map<string, number[]>(); // what the model made of words before
  private readonly bytes = byteCharacters();
  private readonly encoder = new TextEncoder();

  constructor(private readonly program: TokenizerProgram) {
    if (program.schema !== TOKENIZER_SCHEMA) {
      throw new Error(`the tokenizer has the schema ${program.schema}; this reads ${TOKENIZER_SCHEMA}`);
    }
    this.normalize = makeNormalizer(program.normalize);
    this.pieces = makeModel(program.model);
    for (const [name, runs] of Object.entries(program.classes)) this.classes.set(name, Table.of(runs));
  }

  /** Ids and segments of a text or of two, framed and cut to the longest length. */
  encode(text: string, pair?: string): { ids: number[]; segments: number[] } {
    const texts = pair === undefined ? [this.ids(text)] : [this.ids(text), this.ids(pair)];
    const frame = this.program.frame[pair === undefined ? "single" : "pair"];
    const around = frame.reduce((sum, part) => sum + ("ids" in part ? part.ids.length : 0), 0);
    const lengths = shares(texts.map((ids) => ids.length), Math.max(0, this.program.max_length - around));
    const found: number[] = [];
    const segments: number[] = [];
    for (const part of frame) {
      const ids = "ids" in part ? part.ids : texts[part.text]!.slice(0, lengths[part.text]);
      for (const id of ids) {
        found.push(id);
        segments.push(part.segment);
      }
    }
    return { ids: found, segments };
  }

  /** Ids of a text, without its frame, uncut. */
  ids(text: string): number[] {
    const found: number[] = [];
    for (const outer of this.parts(text, false)) {
      if (outer.id !== undefined) {
        found.push(outer.id);
        continue;
      }
      for (const inner of this.parts(this.normalize(outer.text), true)) {
        if (inner.id !== undefined) {
          found.push(inner.id);
          continue;
        }
        for (const word of this.split(inner.text, outer.place === 0 && inner.place === 0)) {
          for (const id of this.remembered(word)) found.push(id);
        }
      }
    }
    return found;
  }

  private remembered(word: string): number[] {
    let ids = this.words.get(word);
    if (ids === undefined) {
      if (this.words.size >= MOST_WORDS) this.words.clear();
      this.words.set(word, (ids = this.pieces(word)));
    }
    return ids;
  }

  /** Texts between added tokens and the ids of these: everywhere the longest, from left to right. */
  private parts(text: string, normalized: boolean): { place: number; text: string; id?: number }[] {
    const known = this.program.added.filter((token) => token.normalized === normalized && token.content !== "");
    const found: { place: number; text: string; id?: number }[] = [];
    let done = 0;
    let start = 0;
    while (known.length > 0 && start < text.length) {
      const token = longest(known.filter((one) => text.startsWith(one.content, start)));
      if (token === undefined) {
        start++;
        continue;
      }
      let stop = start + token.content.length;
      if (token.single_word && (this.in("word", before(text, start)) || this.in("word", after(text, stop)))) {
        start = stop;
        continue;
      }
      let begin = start;
      while (token.lstrip && begin > done && this.in("space", before(text, begin))) begin -= before(text, begin).length;
      while (token.rstrip && this.in("space", after(text, stop))) stop += after(text, stop).length;
      if (begin > done) found.push({ place: done, text: text.slice(done, begin) });
      found.push({ place: begin, text: "", id: token.id });
      done = start = stop;
    }
    if (done < text.length) found.push({ place: done, text: text.slice(done) });
    return found;
  }

  private in(name: ClassName, character: string): boolean {
    return character !== "" && (this.classes.get(name)?.has(codeOf(character)) ?? false);
  }

  private split(text: string, first: boolean): string[] {
    let words = [text];
    for (const split of this.program.split) {
      words = words.flatMap((word) => this.apply(split, word, first)).filter((word) => word !== "");
    }
    return words.filter((word) => word !== "");
  }

  private apply(split: Split, text: string, first: boolean): string[] {
    switch (split.op) {
      case "space":
        return this.runs(text, "space");
      case "isolate":
        return this.runs(text, undefined, split.class);
      case "runs":
        return this.runs(text, "space", undefined, "word");
      case "metaspace":
        return metaspace(text, split, first);
      case "gpt2": {
        const prefixed = split.prefix_space && !text.startsWith(" ") ? ` ${text}` : text;
        const words = split.pattern ? this.gpt2(prefixed) : [prefixed];
        return words.map((word) => Array.from(this.encoder.encode(word), (byte) => this.bytes[byte]!).join(""));
      }
      default:
        throw new Error(`the tokenizer splits by ${JSON.stringify((split as { op: string }).op)}, which is unknown`);
    }
  }

  /** Runs of characters: `drop` parts them and goes, `alone` stands alone, `group` is a run of its own. */
  private runs(text: string, drop?: ClassName, alone?: ClassName, group?: ClassName): string[] {
    const words: string[] = [];
    let last = -1;
    for (const character of text) {
      if (drop !== undefined && this.in(drop, character)) {
        last = -1;
        continue;
      }
      let kind = alone !== undefined && this.in(alone, character) ? 2 : 1;
      if (group !== undefined && this.in(group, character)) kind = 0;
      if (kind === last && kind !== 2) words[words.length - 1] += character;
      else words.push(character);
      last = kind;
    }
    return words;
  }

  /** GPT-2's pattern: contractions, then letters, numbers or others with one space before, then spaces. */
  private gpt2(text: string): string[] {
    const characters = Array.from(text);
    const kinds = characters.map((one) => (["space", "letter", "number"] as const).find((name) => this.in(name, one)));
    const words: string[] = [];
    for (let start = 0, stop = 0; start < characters.length; start = stop) {
      stop = gpt2End(characters, kinds, start);
      words.push(characters.slice(start, stop).join(""));
    }
    return words;
  }
}

function gpt2End(characters: string[], kinds: (string | undefined)[], start: number): number {
  const next = characters.slice(start, start + 3).join("");
  for (const contraction of CONTRACTIONS) if (next.startsWith(contraction)) return start + contraction.length;
  const begin = start + (characters[start] === " " ? 1 : 0);
  if (begin < characters.length && kinds[begin] !== "space") {
    let stop = begin;
    while (stop < characters.length && kinds[stop] === kinds[begin]) stop++;
    return stop;
  }
  let stop = start;
  while (stop < characters.length && kinds[stop] === "space") stop++;
  return stop < characters.length && stop - 1 > start ? stop - 1 : stop;
}

function longest(tokens: Added[]): Added | undefined {
  return tokens.reduce<Added | undefined>(
    (best, token) => (best === undefined || token.content.length > best.content.length ? token : best), undefined);
}

/** The character that ends at a place; empty at the start. */
function before(text: string, place: number): string {
  if (place <= 0) return "";
  const low = text.charCodeAt(place - 1);
  return text.slice(place - (low >= 0xdc00 && low < 0xe000 && place > 1 ? 2 : 1), place);
}

/** The character that begins at a place; empty at the end. */
function after(text: string, place: number): string {
  return place < text.length ? String.fromCodePoint(text.codePointAt(place)!) : "";
}

function makeModel(model: ModelProgram): Pieces {
  switch (model.type) {
    case "wordpiece":
      return makeWordPiece(numbered(model.vocab), model.unknown, model.prefix, model.longest_word);
    case "wordlevel": {
      const vocabulary = numbered(model.vocab);
      return (word) => [vocabulary.get(word) ?? model.unknown];
    }
    case "bpe":
      return makeBPE(model);
    case "unigram":
      return makeUnigram(model);
    default:
      throw new Error(`the tokenizer is of the kind ${JSON.stringify((model as { type: string }).type)}, unknown here`);
  }
}

function numbered(vocabulary: Vocabulary): Map<string, number> {
  const found = new Map<string, number>();
  vocabulary.forEach((piece, number) => {
    if (piece !== null) found.set(piece, number);
  });
  return found;
}

/** The longest piece that a word begins with, then the longest of the rest; one unknown where that fails. */
function makeWordPiece(vocabulary: Map<string, number>, unknown: number, prefix: string, most: number): Pieces {
  return (word) => {
    const characters = Array.from(word);
    if (characters.length > most) return [unknown];
    const found: number[] = [];
    for (let start = 0, stop = 0; start < characters.length; start = stop) {
      let number: number | undefined;
      for (stop = characters.length; stop > start; stop--) {
        number = vocabulary.get((start > 0 ? prefix : "") + characters.slice(start, stop).join(""));
        if (number !== undefined) break;
      }
      if (number === undefined) return [unknown];
      found.push(number);
    }
    return found;
  };
}

/** Characters, merged pair by pair: the pair that was learned first, and the leftmost of those. */
function makeBPE(model: Extract<ModelProgram, { type: "bpe" }>): Pieces {
  const vocabulary = numbered(model.vocab);
  const ranks = new Map<string, Map<string, number>>();
  model.merges.forEach(([one, other], rank) => {
    let row = ranks.get(one);
    if (row === undefined) ranks.set(one, (row = new Map()));
    row.set(other, rank);
  });
  return (word) => {
    const whole = vocabulary.get(word);
    if (model.ignore_merges && whole !== undefined) return [whole];
    const pieces = bpePieces(word, vocabulary, model);
    for (;;) {
      let best = -1;
      let least = Infinity;
      for (let place = 0; place + 1 < pieces.length; place++) {
        const rank = ranks.get(pieces[place]!)?.get(pieces[place + 1]!);
        if (rank !== undefined && rank < least) [best, least] = [place, rank];
      }
      if (best < 0) break;
      const other = pieces[best + 1]!;
      const bare = other.startsWith(model.prefix) ? other.slice(model.prefix.length) : other;
      pieces.splice(best, 2, pieces[best]! + bare);
    }
    return pieces.map((piece) => vocabulary.get(piece) ?? model.unknown).filter((number) => number !== null);
  };
}

function bpePieces(
  word: string, vocabulary: Map<string, number>, model: Extract<ModelProgram, { type: "bpe" }>,
): string[] {
  const found: string[] = [];
  let unknown = false;
  const characters = Array.from(word);
  characters.forEach((character, place) => {
    const suffix = place === characters.length - 1 ? model.suffix : "";
    const piece = (place > 0 ? model.prefix : "") + character + suffix;
    const known = vocabulary.has(piece);
    const coded = known || !model.byte_fallback ? [] : byteNames(piece);
    if (coded.length > 0 && coded.every((name) => vocabulary.has(name))) {
      found.push(...coded);
      unknown = false;
      return;
    }
    if (!known && model.unknown === null) return; // it is left out, and what is beside it becomes neighbours
    if (known || !(unknown && model.fuse_unknown)) found.push(piece);
    unknown = !known;
  });
  return found;
}

interface Node {
  score: number;
  start: number;
  number: number;
}

/** The most likely division into pieces (Viterbi); unknown characters side by side are one unknown token. */
function makeUnigram(model: Extract<ModelProgram, { type: "unigram" }>): Pieces {
  const vocabulary = numbered(model.vocab);
  let most = 0;
  for (const piece of vocabulary.keys()) most = Math.max(most, Array.from(piece).length);
  const unknownScore = model.scores.reduce((least, score) => Math.min(least, score), Infinity) - UNKNOWN_PENALTY;
  const number = (piece: string): number[] => {
    const known = vocabulary.get(piece);
    if (known !== undefined) return [known];
    const coded = model.byte_fallback ? byteNames(piece).map((name) => vocabulary.get(name)) : [undefined];
    return coded.every((one) => one !== undefined) ? (coded as number[]) : [model.unknown];
  };
  return (word) => {
    const characters = Array.from(word);
    const best: (Node | undefined)[] = new Array(characters.length + 1).fill(undefined);
    best[0] = { score: 0, start: 0, number: -1 };
    const offer = (place: number, node: Node): void => {
      if (best[place] === undefined || node.score > best[place]!.score) best[place] = node;
    };
    for (let start = 0; start < characters.length; start++) {
      const here = best[start]!.score;
      let single = false;
      let piece = "";
      for (let stop = start + 1; stop <= Math.min(characters.length, start + most); stop++) {
        piece += characters[stop - 1]!;
        const found = vocabulary.get(piece);
        if (found === undefined) continue;
        offer(stop, { score: here + model.scores[found]!, start, number: found });
        single ||= stop === start + 1;
      }
      if (!single) offer(start + 1, { score: here + unknownScore, start, number: model.unknown });
    }
    const pieces: string[] = [];
    let fused = false;
    for (let stop = characters.length; stop > 0; ) {
      const node = best[stop]!;
      const piece = characters.slice(node.start, stop).join("");
      const unknown = node.number === model.unknown;
      if (unknown && fused) pieces[pieces.length - 1] = piece + pieces[pieces.length - 1]!;
      else pieces.push(piece);
      fused = unknown;
      stop = node.start;
    }
    return pieces.reverse().flatMap(number);
  };
}

function byteNames(piece: string): string[] {
  const hexadecimal = (byte: number): string => byte.toString(16).toUpperCase().padStart(2, "0");
  return Array.from(new TextEncoder().encode(piece), (byte) => `<0x${hexadecimal(byte)}>`);
}

/** Spaces become a visible mark, which begins a word. */
function metaspace(text: string, split: Extract<Split, { op: "metaspace" }>, first: boolean): string[] {
  let marked = text.split(" ").join(split.mark);
  const wanted = split.prepend === "always" || (split.prepend === "first" && first);
  if (wanted && !marked.startsWith(split.mark)) marked = split.mark + marked;
  if (!split.split) return [marked];
  return marked.split(split.mark).map((word, place) => (place > 0 ? split.mark + word : word));
}

/** How many tokens of each text stay, the longer one cut first: as the library tokenizers cuts them. */
function shares(lengths: number[], room: number): number[] {
  if (lengths.length === 1) return [Math.min(lengths[0]!, room)];
  const [one, other] = [lengths[0]!, lengths[1]!];
  if (one + other <= room) return lengths;
  let short = Math.min(one, other);
  let long = short > room ? short : Math.max(short, room - short);
  if (short + long > room) {
    short = Math.floor(room / 2);
    long = short + (room % 2);
  }
  return one <= other ? [short, long] : [long, short];
}

/** GPT-2's printable character of each byte: itself where it is printable, else one from U+0100 on, in order. */
function byteCharacters(): string[] {
  let next = 0x100;
  const printable = (byte: number): boolean =>
    (byte >= 0x21 && byte < 0x7f) || (byte >= 0xa1 && byte < 0xad) || byte >= 0xae;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
}
