import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { TierSchema } from "#gen/drawbridge/v1/access_service";
import { levelsAfter, levelsAt, limitStatus, waitMs } from "../../../services/state/limits.ts";
import { seededRandom } from "../../support/seeded-random.ts";

const tier = create(TierSchema, { requestsPerMinute: 7n, tokensPerMinute: 1_000n });

describe("rate limits", () => {
  test("who waits as long as a refusal says is let in then, and not a millisecond before", () => {
    const random = seededRandom(7);
    let levels = levelsAt(undefined, tier, 0);
    let now = 0;
    for (let step = 0; step < 2_000; step++) {
      const tokens = Math.floor(random() * 200);
      now += Math.floor(random() * 3_000);
      levels = levelsAt(levels, tier, now);
      const wait = Math.max(waitMs(levels.requests, 1, 7n) ?? 0, waitMs(levels.tokens, tokens, 1_000n) ?? 0);
      if (wait > 0) {
        const early = levelsAt(levels, tier, now + wait - 1);
        expect(Math.max(waitMs(early.requests, 1, 7n) ?? 0, waitMs(early.tokens, tokens, 1_000n) ?? 0)).toBe(1);
      }
      now += wait;
      levels = levelsAfter(levelsAt(levels, tier, now), tokens);
      expect(levels.requests).toBeGreaterThanOrEqual(0);
      expect(levels.tokens).toBeGreaterThanOrEqual(0);
    }
  });

  test("no more passes in any time than the rate and one bucket", () => {
    let levels = levelsAt(undefined, tier, 0);
    let passed = 0;
    for (let now = 0; now <= 10 * 60_000; now += 100) {
      levels = levelsAt(levels, tier, now);
      if (waitMs(levels.requests, 1, 7n) !== 0) continue;
      levels = levelsAfter(levels, 0);
      passed++;
    }
    expect(passed).toBe(7 + 10 * 7);
  });

  test("the largest tier has room for its figure, and not for more", () => {
    const largest = create(TierSchema, { requestsPerMinute: 1_000_000_000n, tokensPerMinute: 1_000_000_000_000n });
    const levels = levelsAt(undefined, largest, Date.UTC(2026, 0, 1));
    expect(limitStatus(levels, largest).tokens).toEqual({ limit: 1e12, remaining: 1e12, resetMs: 0 });
    expect(waitMs(levels.tokens, 1e12, largest.tokensPerMinute)).toBe(0);
    expect(waitMs(levels.tokens, 1e12 + 1, largest.tokensPerMinute)).toBeUndefined();
    expect(limitStatus(levelsAfter(levels, 1e12), largest).tokens).toMatchObject({ remaining: 0, resetMs: 60_000 });
  });
});
