import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { type Breaker, BreakerSchema, BreakerState } from "#gen/drawbridge/v1/account";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { Health } from "#gen/drawbridge/v1/worker";
import { type AccountState, best, type Candidate, rank, rejection, score } from "../../../services/scheduler/pick.ts";
import { seededRandom } from "../../support/seeded-random.ts";

const now = Date.UTC(2026, 0, 1);
const request = { excludedAccountIds: [] as string[], now, openShareMax: 0.5 };

interface Fields extends Partial<Omit<Candidate, "account">> {
  readonly account?: Partial<AccountState>;
}

function candidate(id: string, { account, ...fields }: Fields = {}): Candidate {
  return {
    account: { id, millicredits: 10_000, cost: 1_000, drained: false, breaker: undefined, ...account },
    workerId: `${id}-1`,
    workerIncarnation: "i",
    workerAddress: "http://127.0.0.1:1",
    reported: 1n,
    health: Health.HEALTHY,
    slots: 4,
    queueLimit: 4,
    load: 0,
    downUntil: 0,
    ...fields,
  };
}

function open(cause: ErrorReason, until = now + 1_000): Breaker {
  const state = BreakerState.OPEN;
  return create(BreakerSchema, { accountId: "x", state, cause, until: timestampFromMs(until) });
}

const none = () => false;
const chosen = (candidates: Candidate[], fields = {}) =>
  best(candidates, { ...request, ...fields }, () => 0.5, none)?.account.id;

describe("the score", () => {
  test("is credits × (available slots + 1) / (queue depth + 1)", () => {
    expect(score(candidate("a"))).toBe(10 * 5);
    expect(score(candidate("a", { load: 3 }))).toBe(10 * 2);
    expect(score(candidate("a", { load: 6 }))).toBe((10 * 1) / 3);
  });

  test("of an account whose prompts cost nothing does not fall to zero with its credits", () => {
    expect(score(candidate("a", { account: { millicredits: 0, cost: 0 } }))).toBe(5);
  });
});

describe("the best", () => {
  test("has the highest score", () => {
    expect(chosen([candidate("a"), candidate("b", { account: { millicredits: 20_000 } })])).toBe("b");
    expect(chosen([candidate("a", { load: 1 }), candidate("b")])).toBe("b");
  });

  test("has a free slot, if any has one, however rich the others are", () => {
    const rich = candidate("rich", { load: 4, account: { millicredits: 1_000_000_000 } });
    expect(chosen([rich, candidate("poor", { load: 3 })])).toBe("poor");
    expect(chosen([rich])).toBe("rich");
  });

  test("is each of equals as often as the others", () => {
    const random = seededRandom(1);
    const counts = new Map<string, number>();
    const equals = ["a", "b", "c"].map((id) => candidate(id));
    for (let round = 0; round < 3_000; round += 1) {
      const id = best(equals, request, random, none)?.account.id ?? "";
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    for (const count of counts.values()) expect(count).toBeGreaterThan(900);
    expect(counts.size).toBe(3);
  });

  test("is none of those that refused before", () => {
    const [a, b] = [candidate("a"), candidate("b")];
    expect(best([a, b], request, Math.random, (each) => each === a)).toBe(b);
    expect(best([a], request, Math.random, (each) => each === a)).toBeUndefined();
  });
});

describe("what cannot be taken", () => {
  test.each<[string, Fields, ErrorReason]>([
    ["a drained account", { account: { drained: true } }, ErrorReason.DRAINING],
    ["an account without the credits", { account: { millicredits: 999 } }, ErrorReason.CREDITS_EXHAUSTED],
    ["a worker that drains", { health: Health.DRAINING }, ErrorReason.DRAINING],
    ["a worker that is unhealthy", { health: Health.UNHEALTHY }, ErrorReason.NO_WORKER],
    ["a worker that could not be reached", { downUntil: now + 1 }, ErrorReason.NO_WORKER],
    ["a pool whose slots and queue are full", { load: 8 }, ErrorReason.NO_CAPACITY],
    [
      "an account that cools down",
      { account: { breaker: open(ErrorReason.AGENT_RATE_LIMITED) } },
      ErrorReason.BREAKER_OPEN,
    ],
  ])("%s", (_, fields, reason) => {
    expect(rejection(candidate("a", fields), request, true)).toBe(reason);
    expect(chosen([candidate("a", fields), candidate("b", { account: { millicredits: 1_000 } })])).toBe("b");
  });

  test("an account that was tried", () => {
    expect(chosen([candidate("a")], { excludedAccountIds: ["a"] })).toBeUndefined();
  });

  test("what has just come back can be", () => {
    expect(chosen([candidate("a", { downUntil: now })])).toBe("a");
    expect(chosen([candidate("a", { account: { breaker: open(ErrorReason.UNSPECIFIED, now) } })])).toBe("a");
    expect(chosen([candidate("a", { load: 7 })])).toBe("a");
  });
});

describe("accounts open by failures", () => {
  const failing = (id: string) => candidate(id, { account: { breaker: open(ErrorReason.UNSPECIFIED) } });

  test("are out while they are few", () => {
    expect(chosen([failing("a"), candidate("b", { load: 3 })])).toBe("b");
    expect(chosen([failing("a"), candidate("b", { load: 8 })])).toBeUndefined();
  });

  test("are in again when they are most: then the fault is likely common to all", () => {
    expect(chosen([failing("a")])).toBe("a");
    expect(chosen([failing("a"), failing("b"), candidate("c", { load: 8 })])).toBeDefined();
  });

  test("a refused credential and a cool-down never are", () => {
    const stopped = candidate("a", { account: { breaker: open(ErrorReason.AGENT_UNAUTHENTICATED) } });
    expect(chosen([stopped])).toBeUndefined();
  });
});

test("the ranking has all, the best first, those that cannot be taken last", () => {
  const ranked = rank(
    [candidate("full", { load: 8 }), candidate("good"), candidate("better", { account: { millicredits: 20_000 } })],
    request,
  );
  expect(ranked.map((each) => each.candidate.account.id)).toEqual(["better", "good", "full"]);
  expect(ranked.map((each) => each.rejected)).toEqual([undefined, undefined, ErrorReason.NO_CAPACITY]);
});
