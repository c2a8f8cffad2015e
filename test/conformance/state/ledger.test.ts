import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { End } from "#gen/drawbridge/v1/usage";
import type { State, UsageQuery } from "../../../services/state/state.ts";
import {
  admission,
  allUsage,
  apiKey,
  expectReason,
  givenUser,
  minuteMs,
  quotaBooks,
  settlement,
  t0,
  usageOf,
} from "./given.ts";
import { conformance } from "./implementations.ts";

const max = Number.MAX_SAFE_INTEGER;

conformance("ledger: settling", (create) => {
  test("charges, releases the rest and writes an entry", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await state.ledger.admit(admission());
    const usage = { ...usageOf(2 ** 40, 4), cachedInputTokens: 1n, reasoningTokens: 2n };
    const settled = await state.ledger.settle(settlement({ usage }));
    expect(settled).toMatchObject({
      settled: true,
      entry: {
        requestId: "req",
        userId: "u",
        keyId: "k",
        model: "m",
        accountId: "a",
        usage,
        costMicros: 60n,
        millicredits: 1_000n,
        end: End.FINISHED,
        at: timestampFromMs(t0 + 1),
      },
    });
    expect(await quotaBooks(state)).toEqual({ granted: 1_000, available: 940, held: 0, spent: 60 });
    expect(await state.ledger.hold("u", "req")).toBeUndefined();
    expect((await state.ledger.usage({ limit: 10 })).entries).toEqual([settled?.entry]);
    expect(await state.access.findKey("hash of k")).toMatchObject({ spentMicros: 60n });
  });

  test("happens once; a repeated call gives the entry that is there", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await state.ledger.admit(admission());
    const calls = Array.from({ length: 50 }, (_, index) => state.ledger.settle(settlement({ costMicros: index })));
    const results = await Promise.all(calls);
    const first = results.find((each) => each?.settled);
    expect(results.filter((each) => each?.settled)).toHaveLength(1);
    for (const each of results) expect(each?.entry).toEqual(first?.entry);
    const again = await state.ledger.settle(settlement({ end: End.EXPIRED, costMicros: 0, now: t0 + minuteMs }));
    expect(again).toEqual({ settled: false, entry: first?.entry });
    expect(await quotaBooks(state)).toMatchObject({ held: 0, spent: Number(first?.entry.costMicros) });
    expect(await allUsage(state)).toHaveLength(1);
  });

  test("without a hold there is nothing to settle", async () => {
    await using store = await create();
    const { state } = store;
    expect(await state.ledger.settle(settlement())).toBeUndefined();
    await givenUser(state);
    await givenUser(state, { id: "v", key: { id: "k-v" } });
    await state.ledger.admit(admission());
    expect(await state.ledger.settle(settlement({ requestId: "other" }))).toBeUndefined();
    expect(await state.ledger.settle(settlement({ userId: "v" }))).toBeUndefined();
    expect(await quotaBooks(state)).toMatchObject({ held: 100, spent: 0 });
    expect(await allUsage(state)).toEqual([]);
  });

  test("without usage the entry has none", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await state.ledger.admit(admission());
    const fields = { usage: undefined, costMicros: 0, millicredits: 0, accountId: "", end: End.EXPIRED };
    await state.ledger.settle(settlement(fields));
    const [entry] = await allUsage(state);
    expect(entry).toMatchObject({ accountId: "", costMicros: 0n, millicredits: 0n, end: End.EXPIRED });
    expect(entry?.usage).toBeUndefined();
  });

  test("a cost beyond the hold takes from what is available, and no more than there is", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await state.ledger.admit(admission({ requestId: "1" }));
    await state.ledger.admit(admission({ requestId: "2" }));
    await state.ledger.admit(admission({ requestId: "3" }));
    expect(await state.ledger.settle(settlement({ requestId: "1", costMicros: 350 }))).toMatchObject({
      entry: { costMicros: 350n },
    });
    expect(await quotaBooks(state)).toEqual({ granted: 1_000, available: 450, held: 200, spent: 350 });
    expect(await state.ledger.settle(settlement({ requestId: "2", costMicros: max }))).toMatchObject({
      entry: { costMicros: 550n },
    });
    expect(await quotaBooks(state)).toEqual({ granted: 1_000, available: 0, held: 100, spent: 900 });
    await state.ledger.settle(settlement({ requestId: "3", costMicros: max }));
    expect(await quotaBooks(state)).toEqual({ granted: 1_000, available: 0, held: 0, spent: 1_000 });
  });

  test("a cost beyond the hold stays within the key's budget", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { key: { budgetMicros: 250 } });
    await state.ledger.admit(admission({ requestId: "1" }));
    await state.ledger.admit(admission({ requestId: "2" }));
    expect(await state.ledger.settle(settlement({ requestId: "1", costMicros: 999 }))).toMatchObject({
      entry: { costMicros: 150n },
    });
    expect(await state.ledger.settle(settlement({ requestId: "2", costMicros: 999 }))).toMatchObject({
      entry: { costMicros: 100n },
    });
    expect(await state.access.findKey("hash of k")).toMatchObject({ spentMicros: 250n });
    expect(await quotaBooks(state)).toEqual({ granted: 1_000, available: 750, held: 0, spent: 250 });
  });

  test("large amounts are exact", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: max });
    await state.ledger.admit(admission({ requestId: "1", holdMicros: max - 1 }));
    await state.ledger.admit(admission({ requestId: "2", holdMicros: 1 }));
    const cost = max - 1_234_567_890_123;
    await state.ledger.settle(settlement({ requestId: "1", costMicros: cost, millicredits: max }));
    expect(await quotaBooks(state)).toEqual({ granted: max, available: max - 1 - cost, held: 1, spent: cost });
    const [entry] = await allUsage(state);
    expect(entry).toMatchObject({ costMicros: BigInt(cost), millicredits: BigInt(max) });
  });

  test("amounts that are none are refused", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await state.ledger.admit(admission());
    for (const amount of [-1, 0.5, Number.NaN, 2 ** 53]) {
      await expectReason("INVALID_ARGUMENT", state.ledger.settle(settlement({ costMicros: amount })));
      await expectReason("INVALID_ARGUMENT", state.ledger.settle(settlement({ millicredits: amount })));
    }
    expect(await quotaBooks(state)).toMatchObject({ held: 100, spent: 0 });
  });
});

conformance("ledger: usage", (create) => {
  test("is listed newest first, by time and then by request and user", async () => {
    await using store = await create();
    const { state } = store;
    await givenEntries(state);
    expect(await idsOf(state, {})).toEqual(["u/6", "v/5", "v/4", "u/4", "v/3", "u/2", "u/1", "u/0"]);
  });

  test("is filtered by user, key, model and time", async () => {
    await using store = await create();
    const { state } = store;
    await givenEntries(state);
    expect(await idsOf(state, { userId: "v" })).toEqual(["v/5", "v/4", "v/3"]);
    expect(await idsOf(state, { userId: "nobody" })).toEqual([]);
    expect(await idsOf(state, { keyId: "second" })).toEqual(["u/4", "u/1"]);
    expect(await idsOf(state, { model: "n" })).toEqual(["u/6", "v/4"]);
    expect(await idsOf(state, { since: t0 + 20, until: t0 + 50 })).toEqual(["v/4", "u/4", "v/3", "u/2"]);
    expect(await idsOf(state, { userId: "u", keyId: "k", model: "m", until: t0 + 20 })).toEqual(["u/0"]);
    expect(await idsOf(state, { userId: "v", keyId: "k" })).toEqual([]);
  });

  test.each([1, 2, 3, 7, 8, 100])("pages of %i give each entry once", async (limit) => {
    await using store = await create();
    const { state } = store;
    await givenEntries(state);
    expect(await idsOf(state, { limit })).toEqual(["u/6", "v/5", "v/4", "u/4", "v/3", "u/2", "u/1", "u/0"]);
    expect(await idsOf(state, { limit, userId: "u" })).toEqual(["u/6", "u/4", "u/2", "u/1", "u/0"]);
    expect(await idsOf(state, { limit, model: "m" })).toEqual(["v/5", "u/4", "v/3", "u/2", "u/1", "u/0"]);
  });

  test("hundreds of entries of one moment are each there once", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: 1_000_000 });
    const ids = Array.from({ length: 650 }, (_, index) => `r${String(index).padStart(3, "0")}`);
    await Promise.all(ids.map((id) => settleAt(state, "u", id, t0)));
    expect(await idsOf(state, { limit: 100 })).toEqual(ids.toReversed().map((id) => `u/${id}`));
    expect(await idsOf(state, { limit: 300, userId: "u" })).toHaveLength(650);
  });

  test("a page stays where it was while entries come", async () => {
    await using store = await create();
    const { state } = store;
    await givenEntries(state);
    const first = await state.ledger.usage({ limit: 3 });
    await settleAt(state, "u", "9", t0 + 90);
    await settleAt(state, "u", "35", t0 + 35);
    const second = await state.ledger.usage({ limit: 3, pageToken: first.nextPageToken });
    expect(second.entries.map(({ userId, requestId }) => `${userId}/${requestId}`)).toEqual(["u/4", "u/35", "v/3"]);
    await expectReason("INVALID_ARGUMENT", state.ledger.usage({ limit: 3, pageToken: "not ours" }));
  });

  test("the last page says that it is the last", async () => {
    await using store = await create();
    const { state } = store;
    await givenEntries(state);
    expect((await state.ledger.usage({ limit: 8 })).nextPageToken).toBe("");
    expect((await state.ledger.usage({ limit: 7 })).nextPageToken).not.toBe("");
    expect(await state.ledger.usage({ limit: 7, userId: "nobody" })).toEqual({ entries: [], nextPageToken: "" });
  });

  test("trimming deletes what is older, oldest first, and balances keep what was spent", async () => {
    await using store = await create();
    const { state } = store;
    await givenEntries(state);
    const before = await quotaBooks(state);
    expect(await state.ledger.trim(t0 + 40, 3)).toBe(3);
    expect(await idsOf(state, {})).toEqual(["u/6", "v/5", "v/4", "u/4", "v/3"]);
    expect(await state.ledger.trim(t0 + 40, 100)).toBe(1);
    expect(await state.ledger.trim(t0 + 40, 100)).toBe(0);
    expect(await idsOf(state, {})).toEqual(["u/6", "v/5", "v/4", "u/4"]);
    expect(await quotaBooks(state)).toEqual(before);
    expect(await state.ledger.settle(settlement({ requestId: "0" }))).toBeUndefined();
  });
});

/** Entries u/0, u/1, …: the number is the request's id and, times ten, the time after t0. */
async function givenEntries(state: State): Promise<void> {
  await givenUser(state);
  await state.access.createKey(apiKey({ id: "second" }), t0);
  await givenUser(state, { id: "v", key: { id: "k-v" } });
  const entries = ["u/0", "u/1/second", "u/2", "v/3", "u/4/second", "v/4//n", "v/5", "u/6//n"];
  for (const entry of entries) {
    const [userId = "", requestId = "", key = "", model = "m"] = entry.split("/");
    await settleAt(state, userId, requestId, t0 + Number(requestId) * 10, key || undefined, model);
  }
}

async function settleAt(state: State, userId: string, requestId: string, now: number, key?: string, model = "m") {
  const keyId = key ?? (userId === "u" ? "k" : "k-v");
  await state.ledger.admit(admission({ requestId, userId, keyId, model, now }));
  await state.ledger.settle(settlement({ requestId, userId, costMicros: 1, now }));
}

async function idsOf(state: State, query: Partial<UsageQuery>): Promise<string[]> {
  return (await allUsage(state, query)).map(({ userId, requestId }) => `${userId}/${requestId}`);
}
