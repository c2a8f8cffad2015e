import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { BreakerSchema, BreakerState } from "#gen/drawbridge/v1/account";
import { End } from "#gen/drawbridge/v1/usage";
import type { LeaseRequest, State } from "../../../services/state/state.ts";
import { creditBooks, expectReason, lease, leaseVerdict, minuteMs, outcome, spec, t0, tally } from "./given.ts";
import { conformance } from "./implementations.ts";

conformance("leases", (create) => {
  test("reserve credits and give back a lease", async () => {
    await using store = await create();
    const { state } = store;
    await state.accounts.create(spec(), "api", t0);
    const request = lease();
    const result = await state.leases.acquire(request);
    const { capacity: _capacity, now: _now, ...record } = request;
    expect(result).toMatchObject({
      open: 1,
      acquired: true,
      lease: record,
      credits: { available: 9_000n, held: 1_000n },
    });
    expect(await state.leases.open("a")).toEqual([record]);
    expect(await creditBooks(state)).toEqual({ granted: 10_000, available: 9_000, held: 1_000, spent: 0 });
  });

  test("a repeated attempt gets the lease that it has", async () => {
    await using store = await create();
    const { state } = store;
    await state.accounts.create(spec(), "api", t0);
    const first = await state.leases.acquire(lease({ capacity: 1 }));
    const again = await state.leases.acquire(lease({ capacity: 1, millicredits: 5, workerId: "other", now: t0 + 5 }));
    expect(first).toMatchObject(again);
    expect(await creditBooks(state)).toMatchObject({ held: 1_000 });
  });

  test("an attempt is known by its account and its id together", async () => {
    await using store = await create();
    const { state } = store;
    await state.accounts.create(spec({ id: "a" }), "api", t0);
    await state.accounts.create(spec({ id: "b" }), "api", t0);
    expect(leaseVerdict(await state.leases.acquire(lease({ accountId: "a" })))).toBe("acquired");
    expect(leaseVerdict(await state.leases.acquire(lease({ accountId: "b" })))).toBe("acquired");
    await state.leases.settle(outcome({ accountId: "b" }), t0);
    expect(await creditBooks(state, "a")).toMatchObject({ held: 1_000, spent: 0 });
    expect(await creditBooks(state, "b")).toMatchObject({ held: 0, spent: 1_000 });
  });

  test("are refused for an unknown and for a drained account", async () => {
    await using store = await create();
    const { state } = store;
    expect(await state.leases.acquire(lease())).toEqual({ acquired: false, refused: "unknown_account" });
    await state.accounts.create(spec({ drained: true }), "api", t0);
    expect(await state.leases.acquire(lease())).toEqual({ acquired: false, refused: "drained" });
    await state.accounts.update(spec({ drained: false }), 0, t0);
    expect(leaseVerdict(await state.leases.acquire(lease()))).toBe("acquired");
  });

  test("are refused when credits do not cover them; a free one is not", async () => {
    await using store = await create();
    const { state } = store;
    await state.accounts.create(spec({ initialMillicredits: 999n }), "api", t0);
    expect(await state.leases.acquire(lease())).toEqual({ acquired: false, refused: "exhausted" });
    expect(leaseVerdict(await state.leases.acquire(lease({ millicredits: 0 })))).toBe("acquired");
    await state.accounts.setAvailable("a", 0, t0);
    expect(leaseVerdict(await state.leases.acquire(lease({ attemptId: "2", millicredits: 1 })))).toBe("exhausted");
    expect(leaseVerdict(await state.leases.acquire(lease({ attemptId: "3", millicredits: 0 })))).toBe("acquired");
  });

  test("capacity counts the account's unexpired leases on the worker", async () => {
    await using store = await create();
    const { state } = store;
    await state.accounts.create(spec(), "api", t0);
    await state.accounts.create(spec({ id: "b" }), "api", t0);
    const acquire = async (attemptId: string, fields: Partial<LeaseRequest> = {}) =>
      leaseVerdict(await state.leases.acquire(lease({ attemptId, capacity: 2, millicredits: 0, ...fields })));
    expect(await acquire("1", { expiresAt: t0 + 10 })).toBe("acquired");
    expect(await acquire("2")).toBe("acquired");
    expect(await acquire("3")).toBe("full");
    expect(await acquire("4", { workerId: "v" })).toBe("acquired");
    expect(await acquire("5", { accountId: "b" })).toBe("acquired");
    expect(await acquire("6", { now: t0 + 9 })).toBe("full");
    // The first one expires exactly at its time: it no longer takes a place.
    expect(await acquire("7", { now: t0 + 10 })).toBe("acquired");
    expect(await acquire("8", { now: t0 + 10 })).toBe("full");
    await state.leases.settle(outcome({ attemptId: "2" }), t0 + 10);
    expect(await acquire("9", { now: t0 + 10 })).toBe("acquired");
    expect(await acquire("0", { capacity: 0, workerId: "nobody" })).toBe("full");
  });

  test("settling charges what the agent reported", async () => {
    await using store = await create();
    const { state } = store;
    await state.accounts.create(spec(), "api", t0);
    await state.leases.acquire(lease());
    const settled = await state.leases.settle(outcome({ millicredits: 250n }), t0);
    expect(settled).toMatchObject({ settled: true, millicredits: 250, credits: { available: 9_750n, spent: 250n } });
    expect(await creditBooks(state)).toEqual({ granted: 10_000, available: 9_750, held: 0, spent: 250 });
    expect(await state.leases.open("a")).toEqual([]);
  });

  test.each([
    { title: "content, nothing reported: what was reserved", fields: { content: true }, charged: 1_000 },
    { title: "no content, nothing reported: nothing", fields: { content: false }, charged: 0 },
    { title: "no content, something reported: that", fields: { content: false, millicredits: 7n }, charged: 7 },
    { title: "a reported zero: nothing", fields: { content: true, millicredits: 0n }, charged: 0 },
    { title: "more than reserved: from what is available", fields: { millicredits: 3_000n }, charged: 3_000 },
    { title: "more than there is: all that there is", fields: { millicredits: 2n ** 53n - 1n }, charged: 10_000 },
    { title: "expired", fields: { content: false, end: End.EXPIRED }, charged: 0 },
  ])("settling: $title", async ({ fields, charged }) => {
    await using store = await create();
    const { state } = store;
    await state.accounts.create(spec(), "api", t0);
    await state.leases.acquire(lease());
    expect(await state.leases.settle(outcome(fields), t0)).toMatchObject({ settled: true, millicredits: charged });
    expect(await creditBooks(state)).toEqual({
      granted: 10_000,
      available: 10_000 - charged,
      held: 0,
      spent: charged,
    });
  });

  test("the first outcome counts, and a settled attempt is over", async () => {
    await using store = await create();
    const { state } = store;
    await state.accounts.create(spec(), "api", t0);
    await state.leases.acquire(lease());
    await state.leases.settle(outcome({ millicredits: 100n }), t0);
    const again = await state.leases.settle(outcome({ millicredits: 900n }), t0 + 30 * minuteMs);
    expect(again).toMatchObject({ settled: false, millicredits: 100, credits: { spent: 100n } });
    expect(await state.leases.acquire(lease({ now: t0 + 59 * minuteMs }))).toEqual({
      acquired: false,
      refused: "settled",
    });
    expect(await creditBooks(state)).toEqual({ granted: 10_000, available: 9_900, held: 0, spent: 100 });
  });

  test("an unknown attempt settles nothing", async () => {
    await using store = await create();
    const { state } = store;
    expect(await state.leases.settle(outcome({ millicredits: 5n }), t0)).toMatchObject({
      settled: false,
      millicredits: 0,
    });
    await state.accounts.create(spec(), "api", t0);
    expect(await state.leases.settle(outcome({ millicredits: 5n }), t0)).toMatchObject({ settled: false });
    expect(await creditBooks(state)).toEqual({ granted: 10_000, available: 10_000, held: 0, spent: 0 });
  });

  test("outlive their account, and settle into its books", async () => {
    await using store = await create();
    const { state } = store;
    await state.accounts.create(spec(), "api", t0);
    await state.leases.acquire(lease());
    await state.accounts.remove("a", 0, t0);
    expect(await state.leases.expired(t0 + minuteMs, 10)).toMatchObject([{ attemptId: "att" }]);
    expect(await state.leases.settle(outcome({ millicredits: 400n }), t0)).toMatchObject({
      settled: true,
      millicredits: 400,
    });
    await state.accounts.create(spec(), "api", t0);
    expect(await creditBooks(state)).toEqual({ granted: 10_400, available: 10_000, held: 0, spent: 400 });
  });

  test("expired ones are listed oldest first, up to a limit, until they settle", async () => {
    await using store = await create();
    const { state } = store;
    for (const id of ["a", "b"]) await state.accounts.create(spec({ id }), "api", t0);
    const expiries = { one: 30, two: 10, three: 20, four: 40 };
    for (const [attemptId, ms] of Object.entries(expiries)) {
      const accountId = ms > 20 ? "a" : "b";
      await state.leases.acquire(lease({ attemptId, accountId, expiresAt: t0 + ms }));
    }
    const expired = async (now: number, limit = 10) =>
      (await state.leases.expired(now, limit)).map(({ attemptId }) => attemptId);
    expect(await expired(t0 + 9)).toEqual([]);
    expect(await expired(t0 + 30)).toEqual(["two", "three", "one"]);
    expect(await expired(t0 + 30, 2)).toEqual(["two", "three"]);
    await state.leases.settle(outcome({ attemptId: "two", accountId: "b" }), t0);
    expect(await expired(t0 + 40)).toEqual(["three", "one", "four"]);
  });

  test("are renewed while open, and only then", async () => {
    await using store = await create();
    const { state } = store;
    await state.accounts.create(spec(), "api", t0);
    await state.accounts.create(spec({ id: "b" }), "api", t0);
    await state.leases.acquire(lease({ attemptId: "open" }));
    await state.leases.acquire(lease({ attemptId: "settled" }));
    await state.leases.acquire(lease({ attemptId: "other", accountId: "b" }));
    await state.leases.settle(outcome({ attemptId: "settled" }), t0);
    await state.leases.renew("a", ["open", "settled", "other", "unknown"], t0 + 2 * minuteMs);
    await state.leases.renew("a", [], t0);
    expect(await state.leases.open("a")).toMatchObject([{ attemptId: "open", expiresAt: t0 + 2 * minuteMs }]);
    expect(await state.leases.open("b")).toMatchObject([{ attemptId: "other", expiresAt: t0 + minuteMs }]);
    expect(await state.leases.expired(t0 + 2 * minuteMs - 1, 10)).toMatchObject([{ attemptId: "other" }]);
    // A renewed lease takes its place for longer.
    const full = await state.leases.acquire(lease({ attemptId: "late", capacity: 1, now: t0 + minuteMs }));
    expect(leaseVerdict(full)).toBe("full");
  });

  test("1,000 at once on a small balance end exactly at its limit", async () => {
    await using store = await create();
    const { state } = store;
    await state.accounts.create(spec({ initialMillicredits: 37_500n }), "api", t0);
    const results = await Promise.all(acquireMany(state, 1_000, { millicredits: 1_000 }));
    expect(tally(results)).toEqual({ acquired: 37, exhausted: 963 });
    expect(await creditBooks(state)).toEqual({ granted: 37_500, available: 500, held: 37_000, spent: 0 });
  });

  test("1,000 at once on few places end exactly at the capacity", async () => {
    await using store = await create();
    const { state } = store;
    await state.accounts.create(spec({ initialMillicredits: 10_000_000n }), "api", t0);
    const results = await Promise.all(acquireMany(state, 1_000, { capacity: 17 }));
    expect(tally(results)).toEqual({ acquired: 17, full: 983 });
    expect(await state.leases.open("a")).toHaveLength(17);
  });

  test("of many settlements of one attempt, one counts", async () => {
    await using store = await create();
    const { state } = store;
    await state.accounts.create(spec(), "api", t0);
    await state.leases.acquire(lease());
    const calls = Array.from({ length: 50 }, (_, index) =>
      state.leases.settle(outcome({ millicredits: BigInt(index + 1) }), t0),
    );
    const results = await Promise.all(calls);
    const winner = results.find(({ settled }) => settled);
    expect(results.filter(({ settled }) => settled)).toHaveLength(1);
    expect(new Set(results.map(({ millicredits }) => millicredits))).toEqual(new Set([winner?.millicredits]));
    expect(await creditBooks(state)).toMatchObject({ held: 0, spent: winner?.millicredits });
  });

  test("amounts that are none, and empty ids, are refused", async () => {
    await using store = await create();
    const { state } = store;
    await state.accounts.create(spec(), "api", t0);
    for (const millicredits of [-1, 0.5, Number.NaN, 2 ** 53]) {
      await expectReason("INVALID_ARGUMENT", state.leases.acquire(lease({ millicredits })));
    }
    await expectReason("INVALID_ARGUMENT", state.leases.acquire(lease({ attemptId: "" })));
    await expectReason("INVALID_ARGUMENT", state.leases.acquire(lease({ accountId: "" })));
    expect(await creditBooks(state)).toMatchObject({ held: 0 });
  });
});

function acquireMany(state: State, count: number, fields: Partial<LeaseRequest>): Promise<string>[] {
  return Array.from({ length: count }, async (_, index) =>
    leaseVerdict(await state.leases.acquire(lease({ attemptId: `att-${index}`, ...fields }))),
  );
}

const breaker = (fields: MessageInitShape<typeof BreakerSchema> = {}) =>
  create(BreakerSchema, { accountId: "a", state: BreakerState.HALF_OPEN, probesLeft: 1, ...fields });

conformance("what a lease claims beside its place", (open) => {
  test("an account that changed since the caller looked refuses", async () => {
    await using store = await open();
    const { state } = store;
    const accountRevision = Number((await state.accounts.create(spec(), "api", t0)).revision);
    expect(leaseVerdict(await state.leases.acquire(lease({ attemptId: "1", accountRevision })))).toBe("acquired");
    const changed = await state.accounts.update(spec({ slots: 3 }), 0, t0);
    expect(leaseVerdict(await state.leases.acquire(lease({ attemptId: "2", accountRevision })))).toBe("changed");
    const present = lease({ attemptId: "2", accountRevision: Number(changed.revision) });
    expect(leaseVerdict(await state.leases.acquire(present))).toBe("acquired");
  });

  test("a breaker that changed since the caller looked refuses, and is given", async () => {
    await using store = await open();
    const { state } = store;
    await state.accounts.create(spec(), "api", t0);
    expect(leaseVerdict(await state.leases.acquire(lease({ attemptId: "1", breaker: { revision: 0n } })))).toBe(
      "acquired",
    );
    const known = await state.breakers.compareAndSet(breaker());
    const refused = await state.leases.acquire(lease({ attemptId: "2", breaker: { revision: 0n } }));
    expect(refused).toEqual({ acquired: false, refused: "breaker", breaker: known });
    const unknown = await state.leases.acquire(lease({ attemptId: "2", breaker: { revision: 1_000n } }));
    expect(unknown).toMatchObject({ refused: "breaker" });
    const present = lease({ attemptId: "2", breaker: { revision: known?.revision ?? 0n } });
    expect(leaseVerdict(await state.leases.acquire(present))).toBe("acquired");
    expect(await state.breakers.get("a")).toEqual(known);
  });

  test("a probe is taken with the lease or not at all, and by one of many", async () => {
    await using store = await open();
    const { state } = store;
    await state.accounts.create(spec(), "api", t0);
    const known = await state.breakers.compareAndSet(breaker());
    const revision = known?.revision ?? 0n;
    const claim = { revision, next: breaker({ probesLeft: 0 }) };
    const refused = await state.leases.acquire(lease({ attemptId: "0", capacity: 0, breaker: claim }));
    expect(refused).toEqual({ acquired: false, refused: "full" });
    expect(await state.breakers.get("a")).toEqual(known);
    const poor = await state.leases.acquire(lease({ attemptId: "0", millicredits: 10_001, breaker: claim }));
    expect(poor).toEqual({ acquired: false, refused: "exhausted" });

    const results = await Promise.all(
      Array.from({ length: 8 }, (_, index) => state.leases.acquire(lease({ attemptId: `${index}`, breaker: claim }))),
    );
    expect(tally(results.map(leaseVerdict))).toEqual({ acquired: 1, breaker: 7 });
    const written = results.find((each) => each.acquired)?.breaker;
    expect(written).toMatchObject({ probesLeft: 0 });
    expect(await state.breakers.get("a")).toEqual(written);
    expect(written?.revision).not.toBe(revision);
    expect(await creditBooks(state)).toMatchObject({ held: 1_000 });
  });
});
