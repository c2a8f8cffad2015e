import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { PriceSchema, TierSchema } from "#gen/drawbridge/v1/access_service";
import { End, UsageSchema } from "#gen/drawbridge/v1/usage";
import { costMicros, dueMicros, frozenPrice, toAmount } from "../../../services/gateway/access/money.ts";
import { pricesSetting, tiersSetting } from "../../../services/gateway/config.ts";

/** As in the configuration file: dollars per million tokens. */
function priceOf(setting: { input: number; output: number; cached_input?: number; request?: number }, ratio = 1) {
  const [price] = pricesSetting.parse({ m: setting });
  const tier = tiersSetting.parse({ default: { ratio } }).find((each) => each.name === "default");
  return frozenPrice(price, tier ?? create(TierSchema));
}

const tokens = (input: number, output: number, cachedInput = 0) => ({
  input: BigInt(input),
  output: BigInt(output),
  cachedInput: BigInt(cachedInput),
});

describe("the cost in millionths of a dollar", () => {
  it.each([
    // 1,000 × $3 and 500 × $15 per million: $0.003 + $0.0075.
    ["input and output", { input: 3, output: 15 }, 1, tokens(1_000, 500), 10_500],
    ["nothing for nothing", { input: 3, output: 15 }, 1, tokens(0, 0), 0],
    // 600 × 3 + 400 × 0.3.
    ["cached input at its own price", { input: 3, output: 15, cached_input: 0.3 }, 1, tokens(1_000, 0, 400), 1_920],
    ["cached input as input where it has no price", { input: 3, output: 15 }, 1, tokens(1_000, 0, 400), 3_000],
    [
      "cached input for nothing where its price is zero",
      { input: 3, output: 15, cached_input: 0 },
      1,
      tokens(10, 0, 4),
      18,
    ],
    ["a price for the request", { input: 3, output: 15, request: 0.01 }, 1, tokens(1, 1), 10_018],
    ["the tier's ratio on all of it", { input: 3, output: 15, request: 0.01 }, 0.5, tokens(1, 1), 5_009],
    ["a ratio above one", { input: 3, output: 15 }, 1.25, tokens(4, 4), 90],
    ["a ratio of zero", { input: 3, output: 15, request: 1 }, 0, tokens(1_000, 1_000), 0],
    // 7 × 0.001 + 3 × 0.3 = 0.907.
    ["a fraction, rounded up", { input: 0.001, output: 0.3 }, 1, tokens(7, 3), 1],
    // 0.001 + 0.3 = 0.301 each; 0.5 + 0.5 would round up to 2 if each part were rounded.
    ["two fractions, rounded up once", { input: 0.5, output: 0.5 }, 1, tokens(1, 1), 1],
    ["the smallest price", { input: 0.000001, output: 0 }, 0.001, tokens(1, 0), 1],
    ["a whole number exactly, not one more", { input: 0.5, output: 0 }, 1, tokens(2, 0), 1],
  ])("%s", (_, price, ratio, used, expected) => {
    expect(costMicros(used, priceOf(price, ratio))).toBe(expected);
  });

  it("is nothing for a model without a price", () => {
    expect(costMicros(tokens(1_000_000, 1_000_000), frozenPrice(undefined, create(TierSchema)))).toBe(0);
  });

  it("is exact where floating point is not", () => {
    // 0.1 + 0.2 and the like, a million times.
    expect(costMicros(tokens(1_000_003, 2_000_003), priceOf({ input: 0.1, output: 0.2 }, 1.1))).toBe(550_001);
  });

  it("stays an amount, whatever an agent reports", () => {
    const endless = { input: 2n ** 62n, output: 2n ** 62n, cachedInput: 0n };
    expect(costMicros(endless, priceOf({ input: 1_000_000, output: 1_000_000 }, 1_000))).toBe(Number.MAX_SAFE_INTEGER);
    expect(costMicros({ ...endless, input: -5n, output: 0n }, priceOf({ input: 1, output: 1 }))).toBe(0);
    expect(toAmount(-1n)).toBe(0);
  });

  it("keeps the price of the admission", () => {
    const price = create(PriceSchema, { model: "m", inputMicrosPerMillion: 3_000_000n });
    const frozen = frozenPrice(price, create(TierSchema, { ratioPermille: 1_000n }));
    price.inputMicrosPerMillion = 9_000_000n;
    expect(costMicros(tokens(10, 0), frozen)).toBe(30);
  });
});

describe("who pays", () => {
  const price = priceOf({ input: 1, output: 10, request: 0.0001 });
  const usage = create(UsageSchema, { inputTokens: 5n, outputTokens: 2n });

  it.each([
    ["finished", End.FINISHED, 125],
    ["cancelled", End.CANCELLED, 125],
    ["a time-out after content", End.TIMEOUT, 125],
    ["a failure after content", End.FAILED_AFTER_CONTENT, 125],
    ["a failure before content", End.FAILED_BEFORE_CONTENT, 0],
    ["expired", End.EXPIRED, 0],
    ["unknown", End.UNSPECIFIED, 0],
  ])("%s", (_, end, expected) => {
    expect(dueMicros(end, usage, price)).toBe(expected);
  });

  it("pays nothing, not even the request, where nothing was used", () => {
    expect(dueMicros(End.CANCELLED, undefined, price)).toBe(0);
  });

  it("pays no less than nothing for more cached tokens than there are tokens", () => {
    const odd = create(UsageSchema, { inputTokens: 5n, cachedInputTokens: 50n });
    expect(dueMicros(End.FINISHED, odd, priceOf({ input: 1, output: 1, cached_input: 0.2 }))).toBe(1);
  });
});
