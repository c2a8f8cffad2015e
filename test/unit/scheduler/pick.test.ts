import { describe, expect, test } from "vitest";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { Health } from "#gen/drawbridge/v1/worker";
import type { Candidate } from "../../../services/scheduler/fleet/candidate.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { account, type AccountFields, given, openBreaker, worker } from "./given-view.ts";

type PoolFields = Parameters<typeof worker>[1];

/** The best of a fleet of accounts, each with its fields. */
function bestOf(fleet: Record<string, [AccountFields, PoolFields?]>, settings = {}): string | undefined {
  const ids = Object.keys(fleet);
  const accounts = ids.map((id) => account(id, fleet[id]?.[0]));
  return given(
    accounts,
    ids.map((id) => worker(id, fleet[id]?.[1])),
    { settings },
  ).best();
}

const scores = (fields: AccountFields, pool?: PoolFields) => {
  const { view, clock } = given([account("a", fields)], [worker("a", pool)]);
  return view.model("m")?.rank(1, clock.now())[0]?.score;
};

describe("the score", () => {
  test("is credits × (available slots + 1) / (queue depth + 1)", () => {
    expect(scores({})).toBe(10 * 5);
    expect(scores({}, { load: 3 })).toBe(10 * 2);
    expect(scores({}, { load: 6 })).toBe((10 * 1) / 3);
  });

  test("of an account whose prompts cost nothing does not fall to zero with its credits", () => {
    expect(scores({ credits: 0, cost: 0 })).toBe(5);
  });
});

describe("the best", () => {
  test("has the highest score", () => {
    expect(bestOf({ a: [{}], b: [{ credits: 20 }] })).toBe("b");
    expect(bestOf({ a: [{}, { load: 1 }], b: [{}] })).toBe("b");
  });

  test("has the most free slots where the policy says so, whatever the credits", () => {
    const policy = { policy: "least_loaded" };
    expect(bestOf({ a: [{ credits: 1_000 }, { load: 1 }], b: [{}] }, policy)).toBe("b");
  });

  test("has a free slot, if any has one, however rich the others are", () => {
    const backlog = { queue: { worker_backlog: 4 } };
    expect(bestOf({ rich: [{ credits: 1e12 }, { load: 4 }], poor: [{}, { load: 3 }] }, backlog)).toBe("poor");
    expect(bestOf({ rich: [{ credits: 1e12 }, { load: 4 }] }, backlog)).toBe("rich");
  });

  test("is nobody who would queue at the worker, unless the settings allow it", () => {
    expect(bestOf({ a: [{}, { load: 4 }] })).toBeUndefined();
    expect(bestOf({ a: [{}, { load: 5 }] }, { queue: { worker_backlog: 1 } })).toBeUndefined();
    expect(bestOf({ a: [{}, { load: 4 }] }, { queue: { worker_backlog: 1 } })).toBe("a");
  });

  test("is each of equals as often as the others", () => {
    const ids = ["a", "b", "c", "d", "e"];
    const { best } = given(
      ids.map((id) => account(id)),
      ids.map((id) => worker(id)),
    );
    const counts = new Map<string, number>();
    for (let round = 0; round < 5_000; round += 1) counts.set(best() ?? "", (counts.get(best() ?? "") ?? 0) + 1);
    expect([...counts.keys()].toSorted()).toEqual(ids);
    for (const count of counts.values()) expect(count).toBeGreaterThan(850);
  });

  test("is the one that a look at all of them finds, after any changes", () => {
    const random = seededRandom(7);
    const ids = Array.from({ length: 33 }, (_, index) => `a${index}`);
    const accounts = ids.map((id) => account(id, { credits: 1 + Math.floor(random() * 50) }));
    const { view, clock, best } = given(
      accounts,
      ids.map((id) => worker(id)),
    );
    const index = view.model("m");
    for (let round = 0; round < 2_000; round += 1) {
      const candidate = index?.candidates[Math.floor(random() * ids.length)] as Candidate;
      if (random() < 0.6) {
        view.beginClaim(candidate);
        view.endClaim(candidate, `${round}`, Math.floor(random() * 6));
      } else view.setCredits(candidate.account.id, Math.floor(random() * 20_000));
      const excluded = ids.filter(() => random() < 0.1);
      const found = best(excluded);
      const ranked =
        index?.rank(100, clock.now()).filter((each) => !excluded.includes(each.candidate.account.id)) ?? [];
      const takeable = ranked.filter(({ rejected }) => rejected === ErrorReason.UNSPECIFIED);
      const equals = takeable.filter(({ key }) => key === takeable[0]?.key).map((each) => each.candidate.account.id);
      if (equals.length === 0) expect(found).toBeUndefined();
      else expect(equals).toContain(found);
    }
  });
});

describe("what cannot be taken", () => {
  test.each<[string, AccountFields, PoolFields, ErrorReason]>([
    ["a drained account", { drained: true }, {}, ErrorReason.DRAINING],
    ["an account without the credits", { credits: 0.999 }, {}, ErrorReason.CREDITS_EXHAUSTED],
    ["a worker that drains", {}, { health: Health.DRAINING }, ErrorReason.DRAINING],
    ["a worker that is unhealthy", {}, { health: Health.UNHEALTHY }, ErrorReason.NO_WORKER],
    ["a pool whose slots are taken", {}, { load: 4 }, ErrorReason.NO_CAPACITY],
  ])("%s", (_, fields, pool, reason) => {
    expect(bestOf({ a: [{ credits: 100, ...fields }, pool], b: [{ credits: 1 }] })).toBe("b");
    const { view, clock } = given([account("a", fields)], [worker("a", pool)]);
    expect(view.model("m")?.rank(1, clock.now())).toMatchObject([{ rejected: reason }]);
  });

  test("an account that was tried", () => {
    const { best } = given([account("a")], [worker("a")]);
    expect(best(["a"])).toBeUndefined();
    expect(best()).toBe("a");
  });

  test("a worker that could not be reached, until then", async () => {
    const { view, clock, best } = given([account("a")], [worker("a")]);
    view.markDown("a-1", clock.now() + 1_000);
    expect(best()).toBeUndefined();
    await clock.advance(1_000);
    expect(best()).toBe("a");
  });

  test("an account that cools down, until then, however many do", async () => {
    const breakers = (now: number) => [openBreaker("a", now + 1_000, ErrorReason.AGENT_RATE_LIMITED)];
    const { clock, best } = given([account("a")], [worker("a")], { breakers });
    expect(best()).toBeUndefined();
    await clock.advance(1_000);
    expect(best()).toBe("a");
  });
});

describe("accounts open by failures", () => {
  const failing = (open: string[], ids: string[]) =>
    given(
      ids.map((id) => account(id)),
      ids.map((id) => worker(id)),
      {
        breakers: (now) => open.map((id) => openBreaker(id, now + 1_000)),
      },
    );

  test("are out while they are few", () => {
    const { best } = failing(["a"], ["a", "b"]);
    expect(best()).toBe("b");
    expect(best(["b"])).toBeUndefined();
  });

  test("are in again when they are most: then the fault is likely common to all", () => {
    expect(failing(["a"], ["a"]).best()).toBe("a");
    expect(failing(["a", "b"], ["a", "b", "c"]).best(["c"])).toBeDefined();
  });

  test("are out again when others recover", async () => {
    const { view, best, clock } = failing(["a", "b"], ["a", "b", "c"]);
    expect(best(["a", "c"])).toBe("b");
    const closed = openBreaker("a", clock.now() - 1);
    closed.revision = 2n;
    view.setBreaker(closed);
    expect(best(["a", "c"])).toBeUndefined();
  });
});

describe("an account that answers much slower than the others", () => {
  const tell = ({ view }: ReturnType<typeof given>, id: string, ms: number, calls = 3) => {
    for (let call = 0; call < calls; call += 1) view.tellSpeed("m", id, ms);
  };

  test("comes after them, whatever its credits, and before a queue", () => {
    const fleet = given([account("a", { credits: 1e6 }), account("b")], [worker("a"), worker("b")]);
    tell(fleet, "b", 100);
    tell(fleet, "a", 200);
    expect(fleet.best()).toBe("a");
    tell(fleet, "a", 1_000);
    expect(fleet.best()).toBe("b");
    fleet.view.putWorker(worker("b", { load: 4 }, 2n));
    expect(fleet.best()).toBe("a");
  });

  test("is tried again after a while", async () => {
    const fleet = given([account("a", { credits: 1e6 }), account("b")], [worker("a"), worker("b")]);
    tell(fleet, "b", 100);
    tell(fleet, "a", 1_000);
    expect(fleet.best()).toBe("b");
    await fleet.clock.advance(fleet.settings.slow_memory);
    fleet.view.setAccounts([account("a", { credits: 1e6 }), account("b")], []);
    expect(fleet.best()).toBe("a");
  });

  test("has no peers when it is alone", () => {
    const fleet = given([account("a")], [worker("a")]);
    tell(fleet, "a", 60_000, 10);
    expect(fleet.view.model("m")?.speeds.of("a").weight).toBe(1);
  });
});

describe("the ranking", () => {
  test("has all, the best first, those that cannot be taken last", () => {
    const { view, clock } = given(
      [account("full"), account("good"), account("better", { credits: 20 })],
      [worker("full", { load: 4 }), worker("good"), worker("better")],
    );
    const ranked = view.model("m")?.rank(10, clock.now()) ?? [];
    expect(ranked.map((each) => each.candidate.account.id)).toEqual(["better", "good", "full"]);
    expect(ranked.map((each) => each.rejected)).toEqual([0, 0, ErrorReason.NO_CAPACITY]);
  });

  test("has the best of very many", () => {
    const ids = Array.from({ length: 100 }, (_, index) => `a${index}`);
    const accounts = ids.map((id, index) => account(id, { credits: 1 + index }));
    const { view, clock, best } = given(
      accounts,
      ids.map((id) => worker(id)),
    );
    const ranked = view.model("m")?.rank(3, clock.now()) ?? [];
    expect(ranked.map((each) => each.candidate.account.id)).toEqual(["a99", "a98", "a97"]);
    expect(best()).toBe("a99");
  });
});
