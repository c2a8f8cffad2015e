// What a request costs: pure, exact arithmetic in millionths of a dollar. The rules stand in docs/billing.md.
import { clone } from "@bufbuild/protobuf";
import { type Price, PriceSchema, type Tier } from "#gen/drawbridge/v1/access_service";
import { End, type Usage } from "#gen/drawbridge/v1/usage";

const million = 1_000_000n;
const permille = 1_000n;

/** Tokens of one request. */
export interface Tokens {
  readonly input: bigint;
  readonly cachedInput: bigint;
  readonly output: bigint;
}

/**
 * The price with the tier's ratio in it, in thousandths of the price's units, so that nothing is rounded yet. A hold keeps this: neither a new
 * price nor a new ratio touches a request that runs.
 */
export function frozenPrice(price: Price | undefined, tier: Tier): Price | undefined {
  if (!price) return undefined;
  const frozen = clone(PriceSchema, price);
  frozen.inputMicrosPerMillion *= tier.ratioPermille;
  frozen.outputMicrosPerMillion *= tier.ratioPermille;
  if (frozen.cachedInputMicrosPerMillion !== undefined) frozen.cachedInputMicrosPerMillion *= tier.ratioPermille;
  frozen.requestMicros *= tier.ratioPermille;
  return frozen;
}

/** The most that an amount can be, here and in the store. */
const amountMax = BigInt(Number.MAX_SAFE_INTEGER);

/** A count that came from outside, as an amount that the store takes. */
export function toAmount(count: bigint): number {
  if (count < 0n) return 0;
  return Number(count < amountMax ? count : amountMax);
}

/**
 * The cost at a frozen price, rounded up once to a whole millionth of a dollar. 0 for a model without a price. Never beyond what an amount can
 * be, whatever number of tokens an agent reports.
 */
export function costMicros(tokens: Tokens, frozen: Price | undefined): number {
  if (!frozen) return 0;
  const cachedPrice = frozen.cachedInputMicrosPerMillion ?? frozen.inputMicrosPerMillion;
  const tokensCost =
    (tokens.input - tokens.cachedInput) * frozen.inputMicrosPerMillion +
    tokens.cachedInput * cachedPrice +
    tokens.output * frozen.outputMicrosPerMillion;
  const total = tokensCost + frozen.requestMicros * million;
  return toAmount(ceilDivide(total, million * permille));
}

/** What a user pays for a request that ended so. */
export function dueMicros(end: End, usage: Usage | undefined, frozen: Price | undefined): number {
  if (!usage || !isPaid(end)) return 0;
  const cachedInput = usage.cachedInputTokens < usage.inputTokens ? usage.cachedInputTokens : usage.inputTokens;
  return costMicros({ input: usage.inputTokens, cachedInput, output: usage.outputTokens }, frozen);
}

/** Whether a user pays at all for a request that ended so. */
export function isPaid(end: End): boolean {
  return end === End.FINISHED || end === End.CANCELLED || end === End.TIMEOUT || end === End.FAILED_AFTER_CONTENT;
}

function ceilDivide(dividend: bigint, divisor: bigint): bigint {
  return (dividend + divisor - 1n) / divisor;
}
