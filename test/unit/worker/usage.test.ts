import { describe, expect, it } from "vitest";
import { UsageSource } from "#gen/drawbridge/v1/usage";
import { reportedUsage, usageOf, usageOfCutTurn } from "../../../services/worker/turn/usage.ts";

const metered = { inputTokens: 10, outputTokens: 5, reasoningTokens: 2 };

describe("usage", () => {
  it.each([
    [
      "output with reasoning",
      { inputTokens: 116, cachedReadTokens: 7, outputTokens: 45, thoughtTokens: 3, totalTokens: 168 },
    ],
    [
      "output without reasoning",
      { inputTokens: 116, cachedReadTokens: 7, outputTokens: 42, thoughtTokens: 3, totalTokens: 168 },
    ],
  ])("reported as %s", (_, usage) => {
    expect(usageOf([{ answer: { usage } }], metered)).toMatchObject({
      inputTokens: 123n,
      cachedInputTokens: 7n,
      outputTokens: 45n,
      reasoningTokens: 3n,
      source: UsageSource.REPORTED,
    });
  });

  it("is read with the cache inside the input, where the sums say so", () => {
    const usage = { inputTokens: 123, cachedReadTokens: 7, outputTokens: 45, thoughtTokens: 3, totalTokens: 168 };
    expect(usageOf([{ answer: {}, usage }], metered)).toMatchObject({
      inputTokens: 123n,
      cachedInputTokens: 7n,
      outputTokens: 45n,
      source: UsageSource.REPORTED,
    });
  });

  it("is read from a quota with long names, cache and reasoning included", () => {
    const token_count = {
      inputTokens: 116,
      cachedInputTokens: 7,
      outputTokens: 45,
      reasoningOutputTokens: 3,
      totalTokens: 168,
    };
    expect(reportedUsage({ answer: { _meta: { quota: { token_count } } } })).toMatchObject({
      inputTokens: 123n,
      cachedInputTokens: 7n,
      outputTokens: 45n,
      reasoningTokens: 3n,
    });
  });

  it("is estimated from the fill of the context, which holds more input than we sent", () => {
    expect(usageOf([{ answer: {}, contextTokens: 2_000 }], metered)).toMatchObject({
      inputTokens: 1_995n,
      outputTokens: 5n,
      source: UsageSource.ESTIMATED,
    });
    expect(usageOf([{ answer: {}, contextTokens: 3 }], metered)).toMatchObject({ inputTokens: 10n });
  });

  it("counts what was written to the cache as input", () => {
    const usage = { inputTokens: 1, cachedWriteTokens: 20, cachedReadTokens: 3, outputTokens: 4, totalTokens: 28 };
    expect(reportedUsage({ answer: { usage } })).toMatchObject({
      inputTokens: 24n,
      cachedInputTokens: 3n,
      outputTokens: 4n,
    });
  });

  it("is found in the quota too", () => {
    const answer = { _meta: { quota: { token_count: { input_tokens: 8, output_tokens: 9 } } } };
    expect(usageOf([{ answer }], metered)).toMatchObject({
      inputTokens: 8n,
      outputTokens: 9n,
      source: UsageSource.REPORTED,
    });
  });

  it.each([
    ["nothing", undefined],
    ["null", { usage: null }],
    ["zeros", { usage: { inputTokens: 0, outputTokens: 0, totalTokens: 0 } }],
    ["nonsense", { usage: { inputTokens: -5, outputTokens: "many", totalTokens: Number.NaN } }],
  ])("is estimated when the agent reports %s", (_, answer) => {
    expect(usageOf([{ answer }], metered)).toMatchObject({
      inputTokens: 10n,
      outputTokens: 5n,
      reasoningTokens: 2n,
      source: UsageSource.ESTIMATED,
    });
  });

  it("of a turn that was cut takes the output from here", () => {
    const answer = { usage: { inputTokens: 50, outputTokens: 999, totalTokens: 1_049 } };
    expect(usageOfCutTurn([{ answer }], metered)).toMatchObject({
      inputTokens: 50n,
      outputTokens: 5n,
      source: UsageSource.ESTIMATED,
    });
  });
});
