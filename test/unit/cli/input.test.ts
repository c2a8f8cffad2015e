// Amounts and times as people write them.
import { describe, expect, it } from "vitest";
import {
  parseCredits,
  parseDecimal,
  parseDollars,
  parsePositive,
  parseWhole,
  WrongInput,
} from "../../../services/cli/input/amounts.ts";
import { parseMoment, parseSpan } from "../../../services/cli/input/times.ts";

describe("dollars", () => {
  it.each([
    ["1.50", 1_500_000n],
    ["0", 0n],
    ["0.000001", 1n],
    ["20", 20_000_000n],
    ["007.5", 7_500_000n],
    // A floating point number would make 1009999 and 8299999999 of these.
    ["1.01", 1_010_000n],
    ["8300.000000", 8_300_000_000n],
    ["9007199254.740991", 9_007_199_254_740_991n],
  ])("%s are %s millionths", (text, micros) => {
    expect(parseDollars(text)).toBe(micros);
  });

  it.each([
    ["-1", "negative"],
    ["1.0000001", "at most 6 decimals"],
    ["9007199254.740992", "too large"],
    ["much", "decimal number"],
    ["", "decimal number"],
    [".5", "decimal number"],
    ["5.", "decimal number"],
    ["1e3", "decimal number"],
    ["1,50", "decimal number"],
    ["$1", "decimal number"],
    ["0x10", "decimal number"],
    ["Infinity", "decimal number"],
    ["1.5 ", "decimal number"],
    ["１", "decimal number"],
  ])("refuses %j: %s", (text, why) => {
    expect(() => parseDollars(text)).toThrow(WrongInput);
    expect(() => parseDollars(text)).toThrow(why);
  });

  it("are refused where they grant nothing", () => {
    expect(parsePositive(parseDollars)("0.000001")).toBe(1n);
    expect(() => parsePositive(parseDollars)("0.00")).toThrow("more than 0");
  });
});

describe("other amounts", () => {
  it("credits have three decimals", () => {
    expect(parseCredits("12.5")).toBe(12_500n);
    expect(() => parseCredits("0.0001")).toThrow("at most 3 decimals");
  });

  it("whole numbers have none", () => {
    expect(parseWhole("42")).toBe(42n);
    expect(() => parseWhole("4.2")).toThrow("at most 0 decimals");
  });

  it("every value of four decimals is exact", () => {
    for (let units = 0; units < 30_000; units++) {
      const text = `${Math.floor(units / 10_000)}.${String(units % 10_000).padStart(4, "0")}`;
      expect(parseDecimal(text, 4)).toBe(BigInt(units));
    }
  });
});

describe("times", () => {
  const now = Date.UTC(2026, 0, 31, 18);

  it.each([
    ["90s", 90_000],
    ["15m", 900_000],
    ["1h", 3_600_000],
    ["30d", 2_592_000_000],
    ["250ms", 250],
  ])("%s is a span", (text, ms) => {
    expect(parseSpan(text)).toBe(ms);
    expect(parseMoment(text, now, "before")).toBe(now - ms);
    expect(parseMoment(text, now, "after")).toBe(now + ms);
  });

  it.each(["0s", "1", "h", "1y", "-1h", "1 hour", ""])("%j is none", (text) => {
    expect(() => parseSpan(text)).toThrow(WrongInput);
  });

  it.each([
    ["2026-01-31T18:00:00Z", now],
    ["2026-01-31T18:00Z", now],
    ["2026-01-31T20:00:00.000+02:00", now],
    ["2026-01-31", Date.UTC(2026, 0, 31)],
  ])("%s is a point in time", (text, at) => {
    expect(parseMoment(text, now, "before")).toBe(at);
    expect(parseMoment(text, now, "after")).toBe(at);
  });

  it.each(["yesterday", "2026", "2026-13-01", "2026-01-31 18:00", "1e9"])("%j is none", (text) => {
    expect(() => parseMoment(text, now, "before")).toThrow(/1h.*2026-01-31T18:00:00Z/);
  });

  it("stay within what the contract can hold", () => {
    expect(parseMoment("1000000d", now, "before")).toBe(0);
    expect(new Date(parseMoment("99999999d", now, "after")).getUTCFullYear()).toBe(9999);
  });
});
