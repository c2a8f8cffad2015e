import { describe, expect, it } from "vitest";
import { countTokens } from "../../../services/kit/tokens.ts";
import { createOutputMeter, createStopScanner } from "../../../services/worker/turn/output-limits.ts";

function scan(sequences: string[], pieces: string[]) {
  const scanner = createStopScanner(sequences);
  let text = "";
  for (const piece of pieces) {
    const found = scanner.push(piece);
    text += found.text;
    if (found.reached !== undefined) return { text, reached: found.reached };
  }
  return { text: text + scanner.flush(), reached: undefined };
}

describe("the stop scanner", () => {
  it.each([
    [["END"], ["one END two"], { text: "one ", reached: "END" }],
    [["END"], ["one E", "N", "D two"], { text: "one ", reached: "END" }],
    [["END"], ["one E", "N", "X two"], { text: "one ENX two", reached: undefined }],
    [["END"], ["EEN", "D"], { text: "E", reached: "END" }],
    [["aab"], ["aaa", "ab"], { text: "aa", reached: "aab" }],
    [["later", "x"], ["a x later"], { text: "a ", reached: "x" }],
    [["ab", "abc"], ["abc"], { text: "", reached: "ab" }],
    [[], ["any", "thing"], { text: "anything", reached: undefined }],
    [["\n\n"], ["a\n", "\nb"], { text: "a", reached: "\n\n" }],
  ])("with %j on %j", (sequences, pieces, expected) => {
    expect(scan(sequences, pieces)).toEqual(expected);
  });

  it("holds back only a possible beginning", () => {
    const scanner = createStopScanner(["<stop>"]);
    expect(scanner.push("hello <st").text).toBe("hello ");
    expect(scanner.push("rong> word").text).toBe("<strong> word");
  });
});

describe("the output meter", () => {
  const prose = "The quick brown fox doesn't jump over 12345 dogs, naïve 漢字 😀. ".repeat(20);

  it.each([1, 2, 7, 50, 123])("cuts a text in pieces at exactly %i tokens", (limit) => {
    for (const size of [1, 5, 17, 10_000]) {
      const meter = createOutputMeter(limit);
      let text = "";
      for (let start = 0; start < prose.length; start += size) {
        const { text: taken, full } = meter.push("text", prose.slice(start, start + size));
        text += taken;
        if (full) break;
      }
      expect(prose.startsWith(text)).toBe(true);
      expect(countTokens(text)).toBeLessThanOrEqual(limit);
      expect(countTokens(text)).toBeGreaterThanOrEqual(limit - 1);
      expect(meter.tokens).toBeLessThanOrEqual(limit);
    }
  });

  it("lets through a text that just fits", () => {
    const meter = createOutputMeter(countTokens(prose));
    expect(meter.push("text", prose)).toEqual({ text: prose, full: false });
  });

  it("counts reasoning in, and apart", () => {
    const meter = createOutputMeter(0);
    meter.push("reasoning", "one two three");
    meter.push("text", "four five");
    expect(meter.tokens).toBe(5);
    expect(meter.reasoningTokens).toBe(3);
  });
});
