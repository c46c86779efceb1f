// Text as a tokenizer wants it, by the steps of compiled.json; every Unicode fact is in its tables.
// A port of edgekit's reference/normalizer.py, function by function.

export type Run = [first: number, last: number];
export type Valued<T> = [first: number, last: number, value: T];
export type Step =
  | { op: "map"; replace: Valued<string>[]; surround: Run[]; hangul: boolean }
  | { op: "reorder"; classes: Valued<number>[] }
  | { op: "compose"; pairs: [number, number, number][]; classes: Valued<number>[] }
  | { op: "charsmap"; map: [string, string][]; extend: Run[]; prepend: Run[]; control: Run[] }
  | { op: "replace"; old: string; new: string }
  | { op: "squeeze"; least: number; new: string }
  | { op: "strip"; left: boolean; right: boolean; space: Run[] }
  | { op: "prepend"; text: string };

type Change = (text: string) => string;

// Hangul syllables by arithmetic: the Unicode Standard, section 3.12.
const SYLLABLES = 0xac00;
const LEADING = 0x1100;
const VOWELS = 0x1161;
const TRAILING = 0x11a7;
const VOWEL_COUNT = 21;
const TRAILING_COUNT = 28;
const SYLLABLE_COUNT = 11172;
const LEADING_COUNT = 19;
const JAMO: [string, number, number][] = [
  ["L", 0x1100, 0x115f], ["V", 0x1160, 0x11a7], ["T", 0x11a8, 0x11ff],
  ["L", 0xa960, 0xa97c], ["V", 0xd7b0, 0xd7c6], ["T", 0xd7cb, 0xd7fb],
];
const JOINED = new Set(["L L", "L V", "L LV", "L LVT", "LV V", "V V", "LV T", "V T", "LVT T", "T T"]);
const CLUSTER_BYTES = 6; // SentencePiece's map is asked for whole clusters that are shorter than this

/** Values of runs of code points, sorted. */
export class Table<T> {
  constructor(private readonly entries: Valued<T>[]) {}

  static of(runs: Run[]): Table<true> {
    return new Table(runs.map(([first, last]): Valued<true> => [first, last, true]));
  }

  get(code: number): T | undefined {
    let low = 0;
    let high = this.entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.entries[middle]![0] <= code) low = middle + 1;
      else high = middle;
    }
    const entry = this.entries[low - 1];
    return entry !== undefined && code <= entry[1] ? entry[2] : undefined;
  }

  has(code: number): boolean {
    return this.get(code) !== undefined;
  }
}

export function makeNormalizer(steps: Step[]): Change {
  const changes = steps.map(makeStep);
  return (text) => changes.reduce((result, change) => change(result), text);
}

function makeStep(step: Step): Change {
  switch (step.op) {
    case "map":
      return makeMap(step.replace, step.surround, step.hangul);
    case "reorder":
      return makeReorder(step.classes);
    case "compose":
      return makeCompose(step.pairs, step.classes);
    case "charsmap":
      return makeCharsmap(step.map, step.extend, step.prepend, step.control);
    case "replace":
      return (text) => text.split(step.old).join(step.new);
    case "squeeze":
      return (text) => text.replace(/ +/g, (spaces) => (spaces.length >= step.least ? step.new : spaces));
    case "strip":
      return makeStrip(step.left, step.right, step.space);
    case "prepend":
      return (text) => (text === "" ? text : step.text + text);
    default:
      throw new Error(`the tokenizer has the step ${JSON.stringify((step as { op: string }).op)}, which is unknown`);
  }
}

export function codeOf(character: string): number {
  return character.codePointAt(0)!;
}

/** Each character by itself: replaced, surrounded by spaces, a Hangul syllable taken apart, or kept. */
function makeMap(replace: Valued<string>[], surround: Run[], hangul: boolean): Change {
  const replaced = new Table(replace);
  const surrounded = Table.of(surround);
  const change = (character: string): string => {
    const code = codeOf(character);
    const found = replaced.get(code);
    if (found !== undefined) return found;
    if (surrounded.has(code)) return ` ${character} `;
    return hangul && code >= SYLLABLES && code < SYLLABLES + SYLLABLE_COUNT ? takenApart(code) : character;
  };
  return (text) => Array.from(text, change).join("");
}

function takenApart(code: number): string {
  const place = code - SYLLABLES;
  const trailing = place % TRAILING_COUNT;
  const rest = Math.floor(place / TRAILING_COUNT);
  const letters = [LEADING + Math.floor(rest / VOWEL_COUNT), VOWELS + (rest % VOWEL_COUNT)];
  if (trailing > 0) letters.push(TRAILING + trailing);
  return String.fromCodePoint(...letters);
}

/** Marks behind a letter in the order of their combining classes, those of one class as they were. */
function makeReorder(classes: Valued<number>[]): Change {
  const table = new Table(classes);
  return (text) => {
    const found: string[] = [];
    let run: [number, string][] = [];
    const flush = (): void => {
      run.sort((one, other) => one[0] - other[0]);
      for (const [, character] of run) found.push(character);
      run = [];
    };
    for (const character of text) {
      const kind = table.get(codeOf(character));
      if (kind === undefined) {
        flush();
        found.push(character);
      } else {
        run.push([kind, character]);
      }
    }
    flush();
    return found.join("");
  };
}

/** Letters and the marks behind them joined where there is a character for both; Hangul, too. */
function makeCompose(pairs: [number, number, number][], classes: Valued<number>[]): Change {
  const table = new Table(classes);
  const wholes = new Map(pairs.map(([one, other, whole]) => [`${one} ${other}`, String.fromCodePoint(whole)]));
  const join = (one: number, other: number): string | undefined => {
    const [leading, vowel] = [one - LEADING, other - VOWELS];
    if (leading >= 0 && leading < LEADING_COUNT && vowel >= 0 && vowel < VOWEL_COUNT) {
      return String.fromCodePoint(SYLLABLES + (leading * VOWEL_COUNT + vowel) * TRAILING_COUNT);
    }
    const [syllable, trailing] = [one - SYLLABLES, other - TRAILING];
    const open = syllable >= 0 && syllable < SYLLABLE_COUNT && syllable % TRAILING_COUNT === 0;
    if (open && trailing > 0 && trailing < TRAILING_COUNT) return String.fromCodePoint(one + trailing);
    return wholes.get(`${one} ${other}`);
  };
  return (text) => {
    const found: string[] = [];
    let starter = -1; // place of the letter that marks are joined to
    let last = -1; // class of the character before this one; -1 where that is the letter
    for (const character of text) {
      const kind = table.get(codeOf(character)) ?? 0;
      if (starter >= 0 && (last < 0 || last < kind)) {
        const whole = join(codeOf(found[starter]!), codeOf(character));
        if (whole !== undefined) {
          found[starter] = whole;
          continue;
        }
      }
      if (kind === 0) {
        starter = found.length;
        last = -1;
      } else {
        last = kind;
      }
      found.push(character);
    }
    return found.join("");
  };
}

/** SentencePiece's map of strings, asked for each short cluster of characters, then for each character. */
function makeCharsmap(map: [string, string][], extend: Run[], prepend: Run[], control: Run[]): Change {
  const strings = new Map(map);
  const longest = map.reduce((most, [key]) => Math.max(most, Array.from(key).length), 0);
  const [extending, prepending, controlling] = [Table.of(extend), Table.of(prepend), Table.of(control)];
  const encoder = new TextEncoder();
  const lookup = (cluster: string[]): string | undefined => {
    for (let length = 1; length <= Math.min(cluster.length, longest); length++) {
      const found = strings.get(cluster.slice(0, length).join(""));
      if (found !== undefined) return found;
    }
    return undefined;
  };
  const breaks = (before: number, after: number): boolean => {
    if (before === 0x0d && after === 0x0a) return false;
    if (controlling.has(before) || controlling.has(after)) return true;
    return !(extending.has(after) || prepending.has(before) || JOINED.has(`${jamoKind(before)} ${jamoKind(after)}`));
  };
  return (text) => {
    const characters = Array.from(text);
    const found: string[] = [];
    let start = 0;
    for (let stop = 1; stop <= characters.length; stop++) {
      if (stop < characters.length && !breaks(codeOf(characters[stop - 1]!), codeOf(characters[stop]!))) continue;
      const cluster = characters.slice(start, stop);
      const short = encoder.encode(cluster.join("")).length < CLUSTER_BYTES;
      const whole = short ? lookup(cluster) : undefined;
      if (whole !== undefined) found.push(whole);
      else for (const character of cluster) found.push(lookup([character]) ?? character);
      start = stop;
    }
    return found.join("");
  };
}

function jamoKind(code: number): string {
  if (code >= SYLLABLES && code < SYLLABLES + SYLLABLE_COUNT) {
    return (code - SYLLABLES) % TRAILING_COUNT === 0 ? "LV" : "LVT";
  }
  return JAMO.find(([, first, last]) => first <= code && code <= last)?.[0] ?? "";
}

function makeStrip(left: boolean, right: boolean, space: Run[]): Change {
  const table = Table.of(space);
  return (text) => {
    const characters = Array.from(text);
    let start = 0;
    let stop = characters.length;
    while (left && start < stop && table.has(codeOf(characters[start]!))) start++;
    while (right && stop > start && table.has(codeOf(characters[stop - 1]!))) stop--;
    return characters.slice(start, stop).join("");
  };
}
