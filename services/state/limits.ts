// Rate limits as token buckets that refill continuously: pure arithmetic that every implementation of the store shares.
import type { LimitStatus } from "./state.ts";

/** Limits of a tier or a key. Absent: there is none. */
export interface Rates {
  readonly requestsPerMinute?: bigint | undefined;
  readonly tokensPerMinute?: bigint | undefined;
}

/**
 * Levels are counted in 60,000ths: a bucket of n a minute then refills by n a millisecond. So all numbers are whole, and who waits as long as
 * a refusal says is not refused again for the sake of a rounding error.
 */
export const levelUnit = 60_000;

/** What is in a user's buckets at a time. Negative: a debt, which refills like anything else. */
export interface Levels {
  readonly requests: number;
  readonly tokens: number;
  readonly at: number;
}

/** The buckets at `now`: refilled up to a minute's worth. A user without levels has full ones, and what is not limited has no end. */
export function levelsAt(stored: Levels | undefined, rates: Rates, now: number): Levels {
  const refill = (level: number | undefined, perMinute: bigint | undefined) => {
    if (perMinute === undefined) return Number.POSITIVE_INFINITY;
    const capacity = Number(perMinute) * levelUnit;
    if (level === undefined || !stored) return capacity;
    return Math.min(capacity, level + Number(perMinute) * Math.max(0, now - stored.at));
  };
  return {
    requests: refill(stored?.requests, rates.requestsPerMinute),
    tokens: refill(stored?.tokens, rates.tokensPerMinute),
    // Clocks differ a little: a slow one must not turn back the time of the last look, or the same moments would refill twice.
    at: Math.max(now, stored?.at ?? now),
  };
}

/** What is left when a request has taken its place and its tokens. */
export function levelsAfter(levels: Levels, tokens: number): Levels {
  return { ...levels, requests: levels.requests - levelUnit, tokens: levels.tokens - tokens * levelUnit };
}

/** How long until a bucket holds `amount`, in ms; undefined: it never will. */
export function waitMs(level: number, amount: number, perMinute: bigint | undefined): number | undefined {
  if (perMinute === undefined) return 0;
  const missing = amount * levelUnit - level;
  if (missing <= 0) return 0;
  return amount > Number(perMinute) ? undefined : Math.ceil(missing / Number(perMinute));
}

/** What the rate-limit headers say of these levels. */
export function limitStatus(levels: Levels, rates: Rates): LimitStatus {
  const status = (level: number, perMinute: bigint | undefined) => {
    if (perMinute === undefined) return unlimited;
    const limit = Number(perMinute);
    return {
      limit,
      remaining: Math.max(0, Math.floor(level / levelUnit)),
      resetMs: limit === 0 ? 0 : Math.max(0, Math.ceil((limit * levelUnit - level) / limit)),
    };
  };
  return {
    requests: status(levels.requests, rates.requestsPerMinute),
    tokens: status(levels.tokens, rates.tokensPerMinute),
  };
}

const unlimited = { limit: Number.POSITIVE_INFINITY, remaining: Number.POSITIVE_INFINITY, resetMs: 0 };

/** Of two, for each kind, the one that allows less. */
export function tighter(one: LimitStatus, other: LimitStatus | undefined): LimitStatus {
  if (!other) return one;
  const less = (a: LimitStatus["requests"], b: LimitStatus["requests"]) =>
    b.remaining < a.remaining || (b.remaining === a.remaining && b.limit < a.limit) ? b : a;
  return { requests: less(one.requests, other.requests), tokens: less(one.tokens, other.tokens) };
}
