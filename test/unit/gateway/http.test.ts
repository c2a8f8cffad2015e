import { describe, expect, it } from "vitest";
import { durationText } from "../../../services/gateway/http/headers.ts";
import { bodyHashOf, createAnswerCache, idempotencyKeyOf } from "../../../services/gateway/openai/idempotency.ts";

describe("the reset of a limit", () => {
  it.each([
    [0, "0ms"],
    [0.2, "1ms"],
    [12, "12ms"],
    [999, "999ms"],
    [999.5, "1s"],
    [1_000, "1s"],
    [1_001, "2s"],
    [59_999, "1m0s"],
    [360_000, "6m0s"],
    [3_661_000, "1h1m1s"],
  ])("%s ms is %s", (ms, text) => {
    expect(durationText(ms)).toBe(text);
  });
});

describe("an Idempotency-Key", () => {
  it("is a header of bounded length", () => {
    expect(idempotencyKeyOf(undefined)).toBeUndefined();
    expect(idempotencyKeyOf("")).toBeUndefined();
    expect(idempotencyKeyOf("k")).toBe("k");
    expect(() => idempotencyKeyOf("x".repeat(256))).toThrow(/255/);
  });

  it("goes with a body, however that is spaced", () => {
    expect(bodyHashOf("/v1/x", JSON.parse('{"a": 1}'))).toBe(bodyHashOf("/v1/x", JSON.parse('{"a":1}')));
    expect(bodyHashOf("/v1/x", { a: 1 })).not.toBe(bodyHashOf("/v1/x", { a: 2 }));
  });

  it("belongs to its user", () => {
    const answers = createAnswerCache({ answersMax: 10, ttlMs: 1_000 });
    answers.set("ada", "k", "hers");
    expect(answers.get("ada", "k")).toBe("hers");
    expect(answers.get("bob", "k")).toBeUndefined();
  });

  it("keeps so many answers, and none where none are wanted", () => {
    const few = createAnswerCache({ answersMax: 2, ttlMs: 1_000 });
    for (const key of ["a", "b", "c"]) few.set("u", key, key);
    expect(["a", "b", "c"].map((key) => few.get("u", key))).toEqual([undefined, "b", "c"]);
    const none = createAnswerCache({ answersMax: 0, ttlMs: 1_000 });
    none.set("u", "a", "a");
    expect(none.get("u", "a")).toBeUndefined();
  });
});
