import { countTokens as reference } from "gpt-tokenizer/encoding/o200k_base";
import { describe, expect, it } from "vitest";
import { countTokens, createTokenCounter } from "../../../services/kit/tokens.ts";

const prose = "The quick brown fox doesn't jump; it's 1,234 times too tired — naïve, 漢字 and 😀 included.\n\n".repeat(
  40,
);

/** Deterministic pieces of uneven length. */
function pieces(text: string): string[] {
  const found: string[] = [];
  for (let start = 0, size = 1; start < text.length; start += size, size = (size * 7 + 3) % 13 || 5) {
    found.push(text.slice(start, start + size));
  }
  return found;
}

describe("countTokens", () => {
  it("counts ordinary text as the tokenizer does", () => {
    expect(countTokens("")).toBe(0);
    expect(countTokens("hello world")).toBe(2);
    expect(countTokens(prose)).toBe(reference(prose));
  });

  it("takes the names of special tokens as text", () => {
    expect(countTokens("<|endoftext|>")).toBeGreaterThan(1);
  });

  it("stays near the exact count on long runs, which it cuts", () => {
    const run = "漢字仮名".repeat(500);
    expect(Math.abs(countTokens(run) - reference(run))).toBeLessThan(reference(run) * 0.05);
  });

  it("estimates a very long text from a part of it", () => {
    const text = prose.repeat(200);
    const whole = reference(prose) * 200;
    expect(Math.abs(countTokens(text) - whole)).toBeLessThan(whole * 0.02);
  });
});

describe("a token counter", () => {
  it.each([prose, "x".repeat(5_000), "a b ".repeat(2_000), " ".repeat(3_000), "😀".repeat(1_000)])(
    "counts pieces nearly as it counts the whole (%#)",
    (text) => {
      const counter = createTokenCounter();
      for (const piece of pieces(text)) counter.push(piece);
      const whole = countTokens(text);
      expect(Math.abs(counter.tokens - whole)).toBeLessThanOrEqual(8 + whole * 0.05);
    },
  );

  it("counts prose exactly", () => {
    const counter = createTokenCounter();
    for (const piece of pieces(prose)) counter.push(piece);
    expect(counter.tokens).toBe(countTokens(prose));
  });
});
