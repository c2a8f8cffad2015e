// Stop sequences and the output limit, enforced on text that arrives in pieces.
import { createTokenCounter } from "../../kit/tokens.ts";

/** Finds stop sequences in a text that arrives in pieces. Holds back only what may be the beginning of one. */
export interface StopScanner {
  /** What of the text so far may be shown, and the stop sequence that came up right after it. */
  push(text: string): { readonly text: string; readonly reached: string | undefined };
  /** The text ended: what was held back. */
  flush(): string;
}

export function createStopScanner(sequences: readonly string[]): StopScanner {
  let held = "";
  return {
    push(piece) {
      const text = held + piece;
      held = "";
      const found = firstOf(text, sequences);
      if (found) return { text: text.slice(0, found.index), reached: found.sequence };
      const keep = Math.max(0, ...sequences.map((sequence) => overlap(text, sequence)));
      held = text.slice(text.length - keep);
      return { text: text.slice(0, text.length - keep), reached: undefined };
    },
    flush() {
      const rest = held;
      held = "";
      return rest;
    },
  };
}

/** The sequence that comes up first; of two at the same place, the one that was named first. */
function firstOf(text: string, sequences: readonly string[]): { index: number; sequence: string } | undefined {
  let first: { index: number; sequence: string } | undefined;
  for (const sequence of sequences) {
    const index = text.indexOf(sequence);
    if (index >= 0 && (!first || index < first.index)) first = { index, sequence };
  }
  return first;
}

/** Length of the longest end of `text` that is a beginning of `sequence`, and not all of it. */
function overlap(text: string, sequence: string): number {
  for (let length = Math.min(text.length, sequence.length - 1); length > 0; length--) {
    if (text.endsWith(sequence.slice(0, length))) return length;
  }
  return 0;
}

/** Counts output while it streams, and cuts it where a limit is reached. */
export interface OutputMeter {
  /** Counts a piece. The part of it that is within the limit; `full` when anything had to be cut. */
  push(kind: "text" | "reasoning", piece: string): { readonly text: string; readonly full: boolean };
  /** All output tokens so far. */
  readonly tokens: number;
  readonly reasoningTokens: number;
}

/** A token is no more than a byte, and a UTF-16 unit no more than three. */
const tokensPerCharMax = 3;
const sliceChars = 4_096;

/** `tokensMax` 0: no limit. */
export function createOutputMeter(tokensMax: number): OutputMeter {
  const counters = { text: createTokenCounter(), reasoning: createTokenCounter() };
  const total = () => {
    const tokens = counters.text.tokens + counters.reasoning.tokens;
    return tokensMax === 0 ? tokens : Math.min(tokens, tokensMax);
  };
  let chars = 0;
  /** Whether the limit is out of the piece's reach, without counting where that can be told. */
  const isFar = (piece: string) =>
    chars * tokensPerCharMax <= tokensMax || total() + piece.length * tokensPerCharMax <= tokensMax;
  return {
    push(kind, piece) {
      chars += piece.length;
      const counter = counters[kind];
      if (tokensMax === 0 || isFar(piece)) {
        counter.push(piece);
        return { text: piece, full: false };
      }
      let taken = 0;
      while (taken < piece.length) {
        const room = tokensMax - total();
        const slice = piece.slice(taken, taken + sliceChars);
        const fits = counter.fitting(slice, room);
        counter.push(slice.slice(0, fits));
        taken += fits;
        if (fits < slice.length) return { text: piece.slice(0, taken), full: true };
      }
      return { text: piece, full: false };
    },
    get tokens() {
      return total();
    },
    get reasoningTokens() {
      return Math.min(counters.reasoning.tokens, total());
    },
  };
}
