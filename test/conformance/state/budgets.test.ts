import { create as message } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { BudgetSchema, BudgetWindow, RateLimitsSchema } from "#gen/drawbridge/v1/access_service";
import type { AdmitRequest, State } from "../../../services/state/state.ts";
import {
  admission,
  apiKey,
  givenUser,
  minuteMs,
  quotaBooks,
  settlement,
  t0,
  tally,
  tier,
  usageOf,
  verdict,
} from "./given.ts";
import { conformance } from "./implementations.ts";

const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;

/** t0 is a Thursday, the first of January. */
const monday = t0 + 4 * dayMs;
const february = Date.UTC(2026, 1, 1);

conformance("budgets with windows", (create) => {
  test.each([
    ["a day", BudgetWindow.DAY, t0 + dayMs],
    ["a week", BudgetWindow.WEEK, monday],
    ["a month", BudgetWindow.MONTH, february],
  ])("a key's budget for %s begins anew exactly at the edge", async (_, budgetWindow, edge) => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: 10_000, key: { budgetMicros: 250, budgetWindow } });
    const ask = (requestId: string, now: number) => state.ledger.admit(admission({ requestId, now }));
    expect(verdict(await ask("1", t0))).toBe("admitted");
    await state.ledger.settle(settlement({ requestId: "1", costMicros: 60, now: t0 + 1 }));
    expect(verdict(await ask("2", t0 + 2))).toBe("admitted");
    const short = {
      refusal: { reason: "INSUFFICIENT_QUOTA", scope: "key", availableMicros: 90, resetsAt: edge },
    };
    expect(await ask("3", edge - 1)).toMatchObject(short);
    expect(verdict(await ask("4", edge))).toBe("admitted");
    expect(verdict(await ask("5", edge))).toBe("admitted");
    expect(await ask("6", edge)).toMatchObject({ refusal: { scope: "key", availableMicros: 50 } });
    expect((await state.access.findKey("hash of k"))?.budget).toMatchObject({
      micros: 250n,
      window: budgetWindow,
      spentMicros: 0n,
      heldMicros: 200n,
    });
  });

  test("a request counts in the window in which it was let in, whenever it ends", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: 10_000, key: { budgetMicros: 250, budgetWindow: BudgetWindow.DAY } });
    const edge = t0 + dayMs;
    await state.ledger.admit(admission({ requestId: "old", now: edge - 1 }));
    await state.ledger.admit(admission({ requestId: "new", now: edge }));
    await state.ledger.settle(settlement({ requestId: "old", costMicros: 70, now: edge + 1 }));
    await state.ledger.settle(settlement({ requestId: "new", costMicros: 30, now: edge + 2 }));
    const key = await state.access.findKey("hash of k");
    expect(key).toMatchObject({ spentMicros: 100n, budget: { spentMicros: 30n, heldMicros: 0n } });
    expect(key?.budget?.resetsAt).toEqual(timestampFromMs(edge + dayMs));
    expect(await quotaBooks(state)).toMatchObject({ held: 0, spent: 100 });
  });

  test("a clock that is behind does not bring back a window that is over", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: 10_000, key: { budgetMicros: 100, budgetWindow: BudgetWindow.DAY } });
    const edge = t0 + dayMs;
    expect(verdict(await state.ledger.admit(admission({ requestId: "1", now: edge })))).toBe("admitted");
    expect(verdict(await state.ledger.admit(admission({ requestId: "2", now: edge - 500 })))).toBe(
      "INSUFFICIENT_QUOTA",
    );
    expect(verdict(await state.ledger.admit(admission({ requestId: "3", now: edge })))).toBe("INSUFFICIENT_QUOTA");
  });

  test("a user's budget counts all of their keys, before the keys' own", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: 10_000, key: { budgetMicros: 150 } });
    await state.access.createKey(apiKey({ id: "free" }), t0);
    const budget = { micros: 250, window: BudgetWindow.WEEK };
    const updated = await state.access.updateUser("u", { budget }, t0);
    expect(updated.budget).toMatchObject({ micros: 250n, window: BudgetWindow.WEEK, spentMicros: 0n });
    const ask = (requestId: string, keyId: string, now = t0) =>
      state.ledger.admit(admission({ requestId, keyId, now }));
    expect(verdict(await ask("1", "k"))).toBe("admitted");
    expect(await ask("2", "k")).toMatchObject({ refusal: { scope: "key", resetsAt: undefined } });
    expect(verdict(await ask("3", "free"))).toBe("admitted");
    expect(await ask("4", "free")).toMatchObject({
      refusal: { reason: "INSUFFICIENT_QUOTA", scope: "user_budget", availableMicros: 50, resetsAt: monday },
    });
    expect(verdict(await ask("5", "free", monday))).toBe("admitted");
    await state.access.updateUser("u", { budget: undefined }, t0);
    expect((await state.access.getUser("u"))?.budget).toBeUndefined();
    for (const id of ["6", "7", "8"]) expect(verdict(await ask(id, "free", monday))).toBe("admitted");
  });

  test("a tier's budget is for each user who has none of their own", async () => {
    await using store = await create();
    const { state } = store;
    const frugal = tier({ budget: message(BudgetSchema, { micros: 100n, window: BudgetWindow.MONTH }) });
    await givenUser(state, { quotaMicros: 10_000 });
    await givenUser(state, { id: "v", quotaMicros: 10_000, key: { id: "k-v" } });
    await state.access.updateUser("v", { budget: { micros: 200, window: BudgetWindow.TOTAL } }, t0);
    const ask = async (requestId: string, whose: Partial<AdmitRequest> = {}) =>
      verdict(await state.ledger.admit(admission({ requestId, tier: frugal, ...whose })));
    expect([await ask("1"), await ask("2")]).toEqual(["admitted", "INSUFFICIENT_QUOTA"]);
    const other = { userId: "v", keyId: "k-v" };
    expect([await ask("1", other), await ask("2", other), await ask("3", other)]).toEqual([
      "admitted",
      "admitted",
      "INSUFFICIENT_QUOTA",
    ]);
  });

  test("a budget that became smaller does not keep what runs from paying its hold", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: 10_000, key: { budgetMicros: 500 } });
    await state.ledger.admit(admission());
    const lowered = await state.access.updateKey("k", { budget: { micros: 10, window: BudgetWindow.TOTAL } }, t0);
    expect(lowered).toMatchObject({ budgetMicros: 10n });
    expect(await state.ledger.settle(settlement({ costMicros: 90 }))).toMatchObject({ entry: { costMicros: 90n } });
    expect(verdict(await state.ledger.admit(admission({ requestId: "2", holdMicros: 1 })))).toBe("INSUFFICIENT_QUOTA");
  });

  test("an answer that costs more than its hold is charged as far as the window's budget goes", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: 10_000, key: { budgetMicros: 250, budgetWindow: BudgetWindow.DAY } });
    await state.ledger.admit(admission({ requestId: "1" }));
    await state.ledger.admit(admission({ requestId: "2" }));
    expect(await state.ledger.settle(settlement({ requestId: "1", costMicros: 999 }))).toMatchObject({
      entry: { costMicros: 150n },
    });
    expect(await quotaBooks(state)).toMatchObject({ held: 100, spent: 150 });
    expect((await state.access.findKey("hash of k"))?.budget).toMatchObject({ spentMicros: 150n, heldMicros: 100n });
  });

  test("1,000 at once on a day's budget of two keys end exactly at its limits", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: 1_000_000, key: { budgetMicros: 1_750, budgetWindow: BudgetWindow.DAY } });
    await state.access.createKey(apiKey({ id: "free" }), t0);
    await state.access.updateUser("u", { budget: { micros: 3_050, window: BudgetWindow.WEEK } }, t0);
    const results = await Promise.all(
      Array.from({ length: 1_000 }, async (_, index) => {
        const keyId = index % 2 === 0 ? "k" : "free";
        return `${keyId} ${verdict(await state.ledger.admit(admission({ requestId: `r${index}`, keyId })))}`;
      }),
    );
    const counts = tally(results);
    expect(counts["k admitted"]).toBeLessThanOrEqual(17);
    expect((counts["k admitted"] ?? 0) + (counts["free admitted"] ?? 0)).toBe(30);
    expect(await quotaBooks(state)).toMatchObject({ held: 3_000 });
  });
});

conformance("limits of keys", (create) => {
  const limits = (fields: { requestsPerMinute?: bigint; tokensPerMinute?: bigint; concurrency?: bigint }) =>
    message(RateLimitsSchema, fields);
  const slowTier = tier({ requestsPerMinute: 60n, tokensPerMinute: 600n });

  test("the tighter of user and key decides, and is what the headers say", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { key: { limits: limits({ requestsPerMinute: 2n }) } });
    const ask = (requestId: string, now = t0) =>
      state.ledger.admit(admission({ requestId, tier: slowTier, holdMicros: 1, now }));
    expect(await ask("1")).toEqual({
      admitted: true,
      limits: {
        requests: { limit: 2, remaining: 1, resetMs: 30_000 },
        tokens: { limit: 600, remaining: 590, resetMs: 1_000 },
      },
    });
    expect(verdict(await ask("2"))).toBe("admitted");
    expect(await ask("3")).toMatchObject({
      refusal: { reason: "REQUESTS_LIMITED", scope: "key", limit: 2, retryAfterMs: 30_000 },
      limits: { requests: { limit: 2, remaining: 0 }, tokens: { limit: 600, remaining: 580 } },
    });
    expect(await state.ledger.limits("u", slowTier, t0)).toMatchObject({ requests: { limit: 60, remaining: 58 } });
    expect(await state.ledger.limits("u", slowTier, t0, "k")).toMatchObject({
      requests: { limit: 2, remaining: 0 },
      tokens: { limit: 600, remaining: 580 },
    });
    expect(verdict(await ask("4", t0 + 29_999))).toBe("REQUESTS_LIMITED");
    expect(verdict(await ask("5", t0 + 30_000))).toBe("admitted");
  });

  test("a key's tokens are corrected when a request settles", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { key: { limits: limits({ tokensPerMinute: 100n }) } });
    const ask = (requestId: string, tokens: number) =>
      state.ledger.admit(admission({ requestId, tokens, tier: slowTier, holdMicros: 1 }));
    expect(verdict(await ask("1", 90))).toBe("admitted");
    expect(await ask("2", 20)).toMatchObject({
      refusal: { reason: "TOKENS_LIMITED", scope: "key", limit: 100, retryAfterMs: 6_000 },
    });
    await state.ledger.settle(settlement({ requestId: "1", usage: usageOf(3, 7), now: t0 }));
    expect((await state.ledger.limits("u", slowTier, t0, "k")).tokens).toMatchObject({ limit: 100, remaining: 90 });
    expect(verdict(await ask("3", 90))).toBe("admitted");
    expect(await ask("4", 101)).toMatchObject({ refusal: { reason: "TOKENS_LIMITED", retryAfterMs: undefined } });
  });

  test("a key's concurrency counts its own open holds, as long as they are renewed", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { key: { limits: limits({ concurrency: 2n }) } });
    await state.access.createKey(apiKey({ id: "free" }), t0);
    const ask = (requestId: string, fields: Partial<AdmitRequest> = {}) =>
      state.ledger.admit(admission({ requestId, holdMicros: 1, expiresAt: t0 + 10, ...fields }));
    for (const id of ["a", "b"]) expect(verdict(await ask(id, { keyId: "free" }))).toBe("admitted");
    for (const id of ["1", "2"]) expect(verdict(await ask(id))).toBe("admitted");
    expect(await ask("3")).toMatchObject({ refusal: { reason: "CONCURRENCY_LIMITED", scope: "key", limit: 2 } });
    await state.ledger.renew([{ userId: "u", requestId: "1", keyId: "k" }], t0 + 20);
    expect(verdict(await ask("4", { now: t0 + 10, expiresAt: t0 + 20 }))).toBe("admitted");
    expect(verdict(await ask("5", { now: t0 + 10 }))).toBe("CONCURRENCY_LIMITED");
    await state.ledger.settle(settlement({ requestId: "1" }));
    expect(verdict(await ask("6", { now: t0 + 10 }))).toBe("admitted");
  });

  test("a limit may be set, changed and taken away", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    const ask = async (requestId: string, now = t0) =>
      verdict(await state.ledger.admit(admission({ requestId, holdMicros: 1, now })));
    expect(await ask("1")).toBe("admitted");
    await state.access.updateKey("k", { limits: limits({ requestsPerMinute: 1n, concurrency: 5n }) }, t0);
    expect([await ask("2"), await ask("3")]).toEqual(["admitted", "REQUESTS_LIMITED"]);
    await state.access.updateKey("k", { limits: limits({ tokensPerMinute: 10n }) }, t0);
    expect((await state.access.findKey("hash of k"))?.limits).toEqual(limits({ tokensPerMinute: 10n }));
    expect([await ask("4"), await ask("5")]).toEqual(["admitted", "TOKENS_LIMITED"]);
    await state.access.updateKey("k", { limits: undefined }, t0);
    expect((await state.access.findKey("hash of k"))?.limits).toBeUndefined();
    expect([await ask("6"), await ask("7")]).toEqual(["admitted", "admitted"]);
  });

  test.each([
    ["requests", { requestsPerMinute: 7n }, 7],
    ["tokens", { tokensPerMinute: 75n }, 7],
    ["concurrency", { concurrency: 7n }, 7],
  ])("1,000 at once end exactly at a key's limit of %s", async (_, fields, expected) => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: 1_000_000, key: { limits: limits(fields) } });
    const results = await admitMany(state, 1_000);
    expect(tally(results)["admitted"]).toBe(expected);
  });
});

async function admitMany(state: State, count: number): Promise<string[]> {
  const calls = Array.from({ length: count }, (_, index) =>
    state.ledger.admit(admission({ requestId: `req-${index}` })),
  );
  return (await Promise.all(calls)).map(verdict);
}
