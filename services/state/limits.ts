// Rate limits as token buckets that refill continuously: pure arithmetic that every implementation of the store shares.
import type { Tier } from "#gen/drawbridge/v1/access_service";
import type { LimitStatus } from "./state.ts";

const minuteMs = 60_000;

/** What is in a user's buckets at a time. */
export interface Levels {
  readonly requests: number;
  readonly tokens: number;
  readonly at: number;
}

/** The buckets at `now`: refilled at a sixtieth of the tier's figure a second, up to a minute's worth. A user without levels has full ones. */
export function levelsAt(stored: Levels | undefined, tier: Tier, now: number): Levels {
  const refill = (level: number | undefined, perMinute: bigint) => {
    const capacity = Number(perMinute);
    if (level === undefined || !stored) return capacity;
    const elapsedMs = Math.max(0, now - stored.at);
    return Math.min(capacity, level + (capacity * elapsedMs) / minuteMs);
  };
  return {
    requests: refill(stored?.requests, tier.requestsPerMinute),
    tokens: refill(stored?.tokens, tier.tokensPerMinute),
    // Clocks differ a little: a slow one must not turn back the time of the last look, or the same moments would refill twice.
    at: Math.max(now, stored?.at ?? now),
  };
}

/** How long until a bucket holds `amount`, in ms; undefined: it never will. */
export function waitMs(level: number, amount: number, perMinute: bigint): number | undefined {
  if (level >= amount) return 0;
  const capacity = Number(perMinute);
  return amount > capacity || capacity === 0 ? undefined : Math.ceil(((amount - level) * minuteMs) / capacity);
}

/** What the rate-limit headers say of these levels. */
export function limitStatus(levels: Levels, tier: Tier): LimitStatus {
  const status = (level: number, perMinute: bigint) => {
    const limit = Number(perMinute);
    return {
      limit,
      remaining: Math.max(0, Math.floor(level)),
      resetMs: limit === 0 ? 0 : Math.ceil(((limit - Math.min(limit, level)) * minuteMs) / limit),
    };
  };
  return {
    requests: status(levels.requests, tier.requestsPerMinute),
    tokens: status(levels.tokens, tier.tokensPerMinute),
  };
}
