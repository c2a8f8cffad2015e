// Token estimates with a public tokenizer (o200k), for agents that report no usage and for limits that are enforced while text streams.
import { countTokens as countExactly } from "gpt-tokenizer/encoding/o200k_base";

/** Runs without a boundary are cut at this many characters: the tokenizer's cost grows with the square of a run's length. */
const runCharsMax = 128;
const longRuns = new RegExp(`\\S{${runCharsMax}}|\\s{${runCharsMax}}`, "gu");

/** Texts up to this length are counted whole; of longer ones evenly spread blocks are, and the result is scaled up. */
const exactCharsMax = 256 * 1024;
const blockChars = 4 * 1024;

/** How much of the end of a growing text may still change its division into tokens when more arrives. */
const tailChars = 64;
/** A tail below this is not divided; it is short enough to be counted again and again. */
const divideChars = runCharsMax + tailChars;

/** A special token's name in a text is text. */
const plainText = { disallowedSpecial: new Set<string>() };

/** Tokens of a text. Takes bounded time: exact for ordinary texts, an estimate for texts over 256 Ki characters. */
export function countTokens(text: string): number {
  if (text.length <= exactCharsMax) return countRuns(text);
  const stride = Math.ceil(text.length / exactCharsMax) * blockChars;
  let tokens = 0;
  let counted = 0;
  for (let start = 0; start < text.length; start += stride) {
    const block = text.slice(start, start + blockChars);
    tokens += countRuns(block);
    counted += block.length;
  }
  return Math.ceil((tokens * text.length) / counted);
}

function countRuns(text: string): number {
  if (text.length <= runCharsMax) return countExactly(text, plainText);
  let tokens = 0;
  let start = 0;
  for (const run of text.matchAll(longRuns)) {
    const end = run.index + run[0].length;
    tokens += countExactly(text.slice(start, end), plainText);
    start = end;
  }
  return tokens + countExactly(text.slice(start), plainText);
}

/** Counts a text that arrives in pieces, keeping only a short tail of it. */
export interface TokenCounter {
  push(text: string): void;
  /** Tokens so far. Never shrinks by more than the few of the tail when more text joins them. */
  readonly tokens: number;
  /** How many of the text's first UTF-16 units could be pushed so that at most `more` tokens are added. Never cuts a character. */
  fitting(text: string, more: number): number;
}

export function createTokenCounter(): TokenCounter {
  let settled = 0;
  let tail = "";
  let tailTokens: number | undefined = 0;
  return {
    push(text) {
      if (text === "") return;
      tail += text;
      tailTokens = undefined;
      if (tail.length < divideChars) return;
      const cut = boundaryBefore(tail, tail.length - tailChars);
      settled += countTokens(tail.slice(0, cut));
      tail = tail.slice(cut);
    },
    get tokens() {
      tailTokens ??= countTokens(tail);
      return settled + tailTokens;
    },
    fitting(text, more) {
      tailTokens ??= countTokens(tail);
      const limit = tailTokens + more;
      const fits = (units: number) => countTokens(tail + text.slice(0, units)) <= limit;
      if (fits(text.length)) return text.length;
      let low = 0;
      let high = text.length;
      while (high - low > 1) {
        const middle = (low + high) >>> 1;
        if (fits(middle)) low = middle;
        else high = middle;
      }
      return low > 0 && isLowSurrogate(text.charCodeAt(low)) ? low - 1 : low;
    },
  };
}

/** The last place at or before `limit` where a word begins; in a text without words, somewhere before it. Never between two surrogates. */
function boundaryBefore(text: string, limit: number): number {
  for (let index = limit; index > limit - 2 * tailChars && index > 0; index--) {
    if (text[index] === " " && /\S/.test(text[index - 1] ?? "") && /\S/.test(text[index + 1] ?? "")) return index;
  }
  // Where a long run would be cut anyway.
  const cut = Math.floor(limit / runCharsMax) * runCharsMax;
  return isLowSurrogate(text.charCodeAt(cut)) ? cut - 1 : cut;
}

function isLowSurrogate(unit: number): boolean {
  return unit >= 0xdc00 && unit <= 0xdfff;
}
