import { create as message } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { PriceSchema } from "#gen/drawbridge/v1/access_service";
import { End } from "#gen/drawbridge/v1/usage";
import type { AdmitRequest, State } from "../../../services/state/state.ts";
import {
  admission,
  apiKey,
  expectReason,
  givenUser,
  hostileIds,
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

/** A tier with 60 requests and 600 tokens a minute: one request and ten tokens refill in a second. */
const slowTier = tier({ requestsPerMinute: 60n, tokensPerMinute: 600n });

conformance("admission: holds", (create) => {
  test("takes a hold and says what is left of the limits", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    const price = message(PriceSchema, { model: "m", inputMicrosPerMillion: 7n });
    const result = await state.ledger.admit(admission({ tier: slowTier, price }));
    expect(result).toEqual({
      admitted: true,
      limits: {
        requests: { limit: 60, remaining: 59, resetMs: 1_000 },
        tokens: { limit: 600, remaining: 590, resetMs: 1_000 },
      },
    });
    expect(await quotaBooks(state)).toEqual({ granted: 1_000, available: 900, held: 100, spent: 0 });
    const hold = await state.ledger.hold("u", "req");
    expect(hold).toEqual({
      requestId: "req",
      userId: "u",
      keyId: "k",
      model: "m",
      holdMicros: 100,
      tokens: 10,
      price,
      createdAt: t0,
      expiresAt: t0 + minuteMs,
    });
  });

  test("a model without a price holds nothing, and says so", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: 0 });
    expect(verdict(await state.ledger.admit(admission({ holdMicros: 0 })))).toBe("admitted");
    expect((await state.ledger.hold("u", "req"))?.price).toBeUndefined();
  });

  test("a repeated request is admitted again and takes nothing more", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    const request = admission({ tier: slowTier });
    const first = await state.ledger.admit(request);
    const results = await Promise.all(Array.from({ length: 20 }, () => state.ledger.admit(request)));
    for (const each of results) expect(each).toEqual(first);
    expect(await quotaBooks(state)).toMatchObject({ held: 100 });
  });

  test("a request that is settled is not admitted again", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await state.ledger.admit(admission());
    await state.ledger.settle(settlement());
    await expectReason("ALREADY_EXISTS", state.ledger.admit(admission({ now: t0 + 5 })));
    expect(await quotaBooks(state)).toMatchObject({ held: 0, spent: 60 });
  });

  test("a request is known by its user and its id together", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await givenUser(state, { id: "v", key: { id: "k-v" } });
    await state.ledger.admit(admission());
    await state.ledger.admit(admission({ userId: "v", keyId: "k-v", holdMicros: 7 }));
    await state.ledger.settle(settlement({ userId: "v", costMicros: 5 }));
    expect(await quotaBooks(state, "u")).toMatchObject({ held: 100, spent: 0 });
    expect(await quotaBooks(state, "v")).toMatchObject({ held: 0, spent: 5 });
  });

  test("holds are renewed while open, and listed when they have expired, oldest first", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await givenUser(state, { id: "v", key: { id: "k-v" } });
    for (const [requestId, ms] of Object.entries({ one: 30, two: 10, three: 20, four: 40 })) {
      const whose = ms > 20 ? {} : { userId: "v", keyId: "k-v" };
      await state.ledger.admit(admission({ requestId, expiresAt: t0 + ms, ...whose }));
    }
    const expired = async (now: number, limit = 10) =>
      (await state.ledger.expired(now, limit)).map(({ requestId }) => requestId);
    expect(await expired(t0 + 9)).toEqual([]);
    expect(await expired(t0 + 30)).toEqual(["two", "three", "one"]);
    expect(await expired(t0 + 30, 2)).toEqual(["two", "three"]);
    const holds = [
      { userId: "v", requestId: "two", keyId: "k-v" },
      { userId: "u", requestId: "three", keyId: "k" },
      { userId: "u", requestId: "unknown", keyId: "k" },
    ];
    await state.ledger.renew(holds, t0 + 99);
    await state.ledger.renew([], t0);
    expect(await expired(t0 + 98)).toEqual(["three", "one", "four"]);
    expect(await state.ledger.hold("v", "two")).toMatchObject({ expiresAt: t0 + 99 });
    await state.ledger.settle(settlement({ requestId: "one" }));
    expect(await expired(t0 + 99)).toEqual(["three", "four", "two"]);
    expect(await state.ledger.hold("u", "one")).toBeUndefined();
  });

  test("amounts that are none, and empty ids, are refused", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    for (const amount of [-1, 0.5, Number.NaN, 2 ** 53]) {
      await expectReason("INVALID_ARGUMENT", state.ledger.admit(admission({ holdMicros: amount })));
      await expectReason("INVALID_ARGUMENT", state.ledger.admit(admission({ tokens: amount })));
    }
    await expectReason("INVALID_ARGUMENT", state.ledger.admit(admission({ requestId: "" })));
    expect(await quotaBooks(state)).toMatchObject({ held: 0 });
  });

  test("hostile ids are ids like others", async () => {
    await using store = await create();
    const { state } = store;
    for (const id of hostileIds) {
      await givenUser(state, { id, key: { id, hash: `h ${id}`, models: [id] } });
      const idempotency = { key: id, bodyHash: id, expiresAt: t0 + minuteMs };
      const request = admission({ requestId: id, userId: id, keyId: id, model: id, idempotency });
      expect(verdict(await state.ledger.admit(request))).toBe("admitted");
      expect(await state.ledger.hold(id, id)).toMatchObject({ requestId: id, userId: id, keyId: id, model: id });
    }
    const expired = await state.ledger.expired(t0 + minuteMs, 1_000);
    expect(expired.map(({ userId }) => userId).toSorted()).toEqual(hostileIds.toSorted());
    for (const id of hostileIds) {
      const settled = await state.ledger.settle(settlement({ requestId: id, userId: id, accountId: id }));
      expect(settled).toMatchObject({ settled: true, entry: { requestId: id, keyId: id, model: id, accountId: id } });
      expect(await quotaBooks(state, id)).toEqual({ granted: 1_000, available: 940, held: 0, spent: 60 });
    }
  });
});

conformance("admission: keys and money", (create) => {
  test("an unknown, foreign, revoked or expired key is refused, and so is an unknown user", async () => {
    await using store = await create();
    const { state } = store;
    expect(await state.ledger.admit(admission())).toEqual({
      admitted: false,
      refusal: { reason: "UNAUTHENTICATED" },
      limits: undefined,
    });
    await givenUser(state);
    await givenUser(state, { id: "v", key: { id: "k-v", expiresAt: t0 + 10 } });
    expect(verdict(await state.ledger.admit(admission({ keyId: "k-v" })))).toBe("UNAUTHENTICATED");
    expect(verdict(await state.ledger.admit(admission({ keyId: "nobody's" })))).toBe("UNAUTHENTICATED");
    const timely = { userId: "v", keyId: "k-v" };
    expect(verdict(await state.ledger.admit(admission({ ...timely, now: t0 + 9 })))).toBe("admitted");
    expect(verdict(await state.ledger.admit(admission({ ...timely, requestId: "2", now: t0 + 10 })))).toBe(
      "UNAUTHENTICATED",
    );
    await state.access.revokeKey("k", t0);
    expect(verdict(await state.ledger.admit(admission()))).toBe("UNAUTHENTICATED");
    expect(await quotaBooks(state)).toMatchObject({ held: 0 });
  });

  test("a request that runs when its key is revoked settles", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await state.ledger.admit(admission());
    await state.access.revokeKey("k", t0);
    expect(await state.ledger.settle(settlement())).toMatchObject({ settled: true, entry: { costMicros: 60n } });
  });

  test("a key uses its models only", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { key: { models: ["a/b", "it's"] } });
    expect(verdict(await state.ledger.admit(admission({ model: "a" })))).toBe("MODEL_NOT_ALLOWED");
    expect(verdict(await state.ledger.admit(admission({ model: "a/b" })))).toBe("admitted");
    expect(verdict(await state.ledger.admit(admission({ requestId: "2", model: "it's" })))).toBe("admitted");
  });

  test("a hold that the quota does not cover is refused, and takes nothing", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await state.ledger.admit(admission({ holdMicros: 900, tier: slowTier }));
    expect(await state.ledger.admit(admission({ requestId: "2", holdMicros: 101, tier: slowTier }))).toEqual({
      admitted: false,
      refusal: { reason: "INSUFFICIENT_QUOTA", scope: "user", availableMicros: 100 },
      limits: await state.ledger.limits("u", slowTier, t0),
    });
    expect(await state.ledger.limits("u", slowTier, t0)).toMatchObject({ requests: { remaining: 59 } });
    expect(verdict(await state.ledger.admit(admission({ requestId: "3", holdMicros: 100 })))).toBe("admitted");
    expect(await quotaBooks(state)).toEqual({ granted: 1_000, available: 0, held: 1_000, spent: 0 });
  });

  test("a key's budget counts what it holds and what it has spent", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { key: { budgetMicros: 250 } });
    await state.access.createKey(apiKey({ id: "free" }), t0);
    await state.ledger.admit(admission({ requestId: "1" }));
    await state.ledger.admit(admission({ requestId: "2" }));
    expect(await state.ledger.admit(admission({ requestId: "3" }))).toMatchObject({
      refusal: { reason: "INSUFFICIENT_QUOTA", scope: "key", availableMicros: 50 },
    });
    expect(verdict(await state.ledger.admit(admission({ requestId: "3", keyId: "free" })))).toBe("admitted");
    await state.ledger.settle(settlement({ requestId: "1", costMicros: 10 }));
    expect(await state.access.findKey("hash of k")).toMatchObject({ budgetMicros: 250n, spentMicros: 10n });
    expect(verdict(await state.ledger.admit(admission({ requestId: "4" })))).toBe("admitted");
    expect(await state.ledger.admit(admission({ requestId: "5", holdMicros: 41 }))).toMatchObject({
      refusal: { scope: "key", availableMicros: 40 },
    });
  });

  test("a budget of nothing allows what costs nothing", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { key: { budgetMicros: 0 } });
    expect(await state.ledger.admit(admission({ holdMicros: 1 }))).toMatchObject({ refusal: { scope: "key" } });
    expect(verdict(await state.ledger.admit(admission({ holdMicros: 0 })))).toBe("admitted");
  });

  test("the first thing that says no is the refusal", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: 0, key: { models: ["m"] } });
    const nothing = tier({ requestsPerMinute: 0n, tokensPerMinute: 0n, concurrency: 0n });
    const ask = async (fields: Partial<AdmitRequest>) => verdict(await state.ledger.admit(admission(fields)));
    expect(await ask({ model: "other", tier: nothing })).toBe("MODEL_NOT_ALLOWED");
    expect(await ask({ tier: nothing })).toBe("REQUESTS_LIMITED");
    expect(await ask({ tier: { ...nothing, requestsPerMinute: 1n } })).toBe("TOKENS_LIMITED");
    expect(await ask({ tier: { ...nothing, requestsPerMinute: 1n, tokensPerMinute: 10n } })).toBe(
      "CONCURRENCY_LIMITED",
    );
    expect(await ask({})).toBe("INSUFFICIENT_QUOTA");
  });

  test("1,000 at once on a small quota end exactly at its limit", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: 4_150 });
    expect(tally(await admitMany(state, 1_000))).toEqual({ admitted: 41, INSUFFICIENT_QUOTA: 959 });
    expect(await quotaBooks(state)).toEqual({ granted: 4_150, available: 50, held: 4_100, spent: 0 });
  });

  test("1,000 at once on a small budget end exactly at its limit", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: 1_000_000, key: { budgetMicros: 2_399 } });
    expect(tally(await admitMany(state, 1_000))).toEqual({ admitted: 23, INSUFFICIENT_QUOTA: 977 });
  });
});

conformance("admission: limits", (create) => {
  test("requests are refused when their bucket is empty, until it has refilled", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: 1_000_000 });
    const two = tier({ requestsPerMinute: 2n });
    expect(tally(await admitMany(state, 10, { tier: two }))).toEqual({ admitted: 2, REQUESTS_LIMITED: 8 });
    const ask = (now: number) => state.ledger.admit(admission({ requestId: `at ${now}`, tier: two, now }));
    expect(await ask(t0 + 10_000)).toMatchObject({
      refusal: { reason: "REQUESTS_LIMITED", retryAfterMs: 20_000 },
      limits: { requests: { limit: 2, remaining: 0, resetMs: 50_000 } },
    });
    expect(verdict(await ask(t0 + 29_999))).toBe("REQUESTS_LIMITED");
    expect(verdict(await ask(t0 + 30_000))).toBe("admitted");
    expect(verdict(await ask(t0 + 30_001))).toBe("REQUESTS_LIMITED");
  });

  test("tokens are refused until they fit, and for ever if they never will", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    const ask = (requestId: string, tokens: number, now: number) =>
      state.ledger.admit(admission({ requestId, tokens, tier: slowTier, now }));
    expect(verdict(await ask("1", 600, t0))).toBe("admitted");
    expect(await ask("2", 100, t0)).toMatchObject({
      refusal: { reason: "TOKENS_LIMITED", retryAfterMs: 10_000 },
      limits: { requests: { remaining: 59 }, tokens: { remaining: 0, resetMs: 60_000 } },
    });
    expect(verdict(await ask("3", 100, t0 + 9_999))).toBe("TOKENS_LIMITED");
    expect(verdict(await ask("4", 100, t0 + 10_000))).toBe("admitted");
    const never = await ask("5", 601, t0 + 10 * minuteMs);
    expect(never).toMatchObject({ refusal: { reason: "TOKENS_LIMITED" } });
    expect(never.admitted ? undefined : never.refusal).toHaveProperty("retryAfterMs", undefined);
  });

  test("a limit of nothing allows nothing, for ever", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    const requests = await state.ledger.admit(admission({ tier: tier({ requestsPerMinute: 0n }) }));
    expect(requests).toMatchObject({
      refusal: { reason: "REQUESTS_LIMITED", retryAfterMs: undefined },
      limits: { requests: { limit: 0, remaining: 0, resetMs: 0 } },
    });
    const tokens = await state.ledger.admit(admission({ tier: tier({ tokensPerMinute: 0n }) }));
    expect(tokens).toMatchObject({ refusal: { reason: "TOKENS_LIMITED", retryAfterMs: undefined } });
    expect(verdict(await state.ledger.admit(admission({ tier: tier({ concurrency: 0n }) })))).toBe(
      "CONCURRENCY_LIMITED",
    );
  });

  test("settling gives back the tokens that were not used", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await state.ledger.admit(admission({ tokens: 500, tier: slowTier }));
    await state.ledger.settle(settlement({ usage: usageOf(30, 20), now: t0 }));
    expect((await state.ledger.limits("u", slowTier, t0)).tokens.remaining).toBe(550);
    await state.ledger.admit(admission({ requestId: "2", tokens: 500, tier: slowTier }));
    await state.ledger.settle(settlement({ requestId: "2", usage: undefined, now: t0 }));
    expect((await state.ledger.limits("u", slowTier, t0)).tokens.remaining).toBe(550);
  });

  test("settling takes what was used beyond, and a debt is paid before anything is allowed", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await state.ledger.admit(admission({ tokens: 500, tier: slowTier }));
    await state.ledger.settle(settlement({ usage: usageOf(400, 300), now: t0 }));
    expect((await state.ledger.limits("u", slowTier, t0)).tokens).toEqual({
      limit: 600,
      remaining: 0,
      resetMs: 70_000,
    });
    const ask = (now: number) => state.ledger.admit(admission({ requestId: `${now}`, tokens: 1, tier: slowTier, now }));
    expect(await ask(t0)).toMatchObject({ refusal: { reason: "TOKENS_LIMITED", retryAfterMs: 10_100 } });
    expect(verdict(await ask(t0 + 10_099))).toBe("TOKENS_LIMITED");
    expect(verdict(await ask(t0 + 10_100))).toBe("admitted");
  });

  test("buckets hold no more than a minute's worth, of whatever tier the user is in now", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await state.ledger.admit(admission({ tier: slowTier }));
    const later = await state.ledger.limits("u", slowTier, t0 + 60 * minuteMs);
    expect(later).toMatchObject({ requests: { remaining: 60, resetMs: 0 }, tokens: { remaining: 600, resetMs: 0 } });
    const smaller = tier({ requestsPerMinute: 5n, tokensPerMinute: 50n });
    expect(await state.ledger.limits("u", smaller, t0)).toMatchObject({
      requests: { limit: 5, remaining: 5 },
      tokens: { limit: 50, remaining: 50 },
    });
    expect(await state.ledger.limits("nobody", slowTier, t0)).toMatchObject({ requests: { remaining: 60 } });
  });

  test("a clock that is behind neither takes nor refills", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    const ask = (requestId: string, now: number) =>
      state.ledger.admit(admission({ requestId, tokens: 300, tier: slowTier, now }));
    await ask("1", t0);
    await ask("2", t0 - 5_000);
    expect((await state.ledger.limits("u", slowTier, t0)).tokens.remaining).toBe(0);
    expect(verdict(await ask("3", t0))).toBe("TOKENS_LIMITED");
  });

  test("1,000 at once end exactly at the concurrency limit", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: 1_000_000 });
    const results = await admitMany(state, 1_000, { tier: tier({ concurrency: 7n }) });
    expect(tally(results)).toEqual({ admitted: 7, CONCURRENCY_LIMITED: 993 });
  });

  test("concurrency counts the user's open holds that have not expired", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await state.access.createKey(apiKey({ id: "second" }), t0);
    const ask = async (requestId: string, fields: Partial<AdmitRequest> = {}) =>
      verdict(await state.ledger.admit(admission({ requestId, tier: tier({ concurrency: 2n }), ...fields })));
    expect(await ask("1", { expiresAt: t0 + 10 })).toBe("admitted");
    expect(await ask("2", { keyId: "second" })).toBe("admitted");
    expect(await ask("3", { now: t0 + 9 })).toBe("CONCURRENCY_LIMITED");
    expect(await ask("4", { now: t0 + 10 })).toBe("admitted");
    expect(await ask("5", { now: t0 + 10 })).toBe("CONCURRENCY_LIMITED");
    await state.ledger.settle(settlement({ requestId: "2" }));
    expect(await ask("6", { now: t0 + 10 })).toBe("admitted");
  });
});

conformance("admission: idempotency keys", (create) => {
  const idempotency = { key: `it's {a} "key"`, bodyHash: "body", expiresAt: t0 + 60 * minuteMs };
  const ask = (state: State, requestId: string, fields: Partial<AdmitRequest> = {}) =>
    state.ledger.admit(admission({ requestId, idempotency, ...fields }));
  const conflict = (kind: string, requestId: string) => ({
    admitted: false,
    refusal: { reason: "IDEMPOTENCY_CONFLICT", conflict: kind, requestId },
  });

  test("a key whose request runs is in use, by the same and by another body", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await ask(state, "1");
    expect(verdict(await ask(state, "1"))).toBe("admitted");
    expect(await ask(state, "2")).toMatchObject(conflict("running", "1"));
    const otherBody = { ...idempotency, bodyHash: "other" };
    expect(await ask(state, "2", { idempotency: otherBody })).toMatchObject(conflict("other_body", "1"));
    expect(await quotaBooks(state)).toMatchObject({ held: 100 });
  });

  test("a key whose request was billed stays in use until it expires", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await ask(state, "1");
    await state.ledger.settle(settlement({ requestId: "1", costMicros: 0 }));
    expect(await ask(state, "2")).toMatchObject(conflict("billed", "1"));
    const now = idempotency.expiresAt - 1;
    expect(await ask(state, "3", { now })).toMatchObject(conflict("billed", "1"));
    const later = { ...idempotency, expiresAt: now + 60 * minuteMs };
    expect(verdict(await ask(state, "4", { now: now + 1, idempotency: later }))).toBe("admitted");
    expect(await ask(state, "5", { now: now + 1, idempotency: later })).toMatchObject(conflict("running", "4"));
  });

  test("a request that was paid for in part keeps its key; one that cost nothing frees it", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await ask(state, "1");
    await state.ledger.settle(settlement({ requestId: "1", end: End.FAILED_BEFORE_CONTENT, costMicros: 0 }));
    expect(verdict(await ask(state, "2", { idempotency: { ...idempotency, bodyHash: "new" } }))).toBe(
      "IDEMPOTENCY_CONFLICT",
    );
    expect(verdict(await ask(state, "2"))).toBe("admitted");
    await state.ledger.settle(settlement({ requestId: "2", end: End.CANCELLED, costMicros: 1 }));
    expect(await ask(state, "3")).toMatchObject(conflict("billed", "2"));
  });

  test("keys belong to their user", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await givenUser(state, { id: "v", key: { id: "k-v" } });
    await ask(state, "1");
    expect(verdict(await ask(state, "2", { userId: "v", keyId: "k-v" }))).toBe("admitted");
  });

  test("a refused request leaves its key free", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    expect(verdict(await ask(state, "1", { holdMicros: 1_001 }))).toBe("INSUFFICIENT_QUOTA");
    expect(verdict(await ask(state, "2"))).toBe("admitted");
  });

  test("of many with one key, one is admitted", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: 1_000_000 });
    expect(tally(await admitMany(state, 100, { idempotency }))).toEqual({ admitted: 1, IDEMPOTENCY_CONFLICT: 99 });
  });
});

async function admitMany(state: State, count: number, fields: Partial<AdmitRequest> = {}): Promise<string[]> {
  const calls = Array.from({ length: count }, (_, index) =>
    state.ledger.admit(admission({ requestId: `req-${index}`, ...fields })),
  );
  return (await Promise.all(calls)).map(verdict);
}
