import { create as message } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { PriceSchema } from "#gen/drawbridge/v1/access_service";
import type { State } from "../../../services/state/state.ts";
import { adminKey, apiKey, expectReason, givenUser, hostileIds, quotaBooks, t0, tier } from "./given.ts";
import { conformance } from "./implementations.ts";

const max = Number.MAX_SAFE_INTEGER;

conformance("users", (create) => {
  test("creating one grants their quota", async () => {
    await using store = await create();
    const { state } = store;
    const created = await state.access.createUser({ id: "u", tier: "gold", quotaMicros: 500 }, t0);
    expect(created).toMatchObject({ id: "u", tier: "gold", createdAt: timestampFromMs(t0) });
    expect(await state.access.getUser("u")).toEqual(created);
    expect(await state.access.getUser("v")).toBeUndefined();
    expect(await state.ledger.quota("v")).toBeUndefined();
    expect(await quotaBooks(state)).toEqual({ granted: 500, available: 500, held: 0, spent: 0 });
  });

  test("there is no second one of an id", async () => {
    await using store = await create();
    const { state } = store;
    const user = { id: "u", tier: "default", quotaMicros: 500 };
    const results = await Promise.allSettled(Array.from({ length: 20 }, () => state.access.createUser(user, t0)));
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    await expectReason("ALREADY_EXISTS", state.access.createUser({ ...user, quotaMicros: 7 }, t0));
    expect(await quotaBooks(state)).toMatchObject({ granted: 500 });
  });

  test("a grant adds quota once for each grant id", async () => {
    await using store = await create();
    const { state } = store;
    await expectReason("NOT_FOUND", state.access.grantQuota("u", "g", 1, t0));
    await givenUser(state);
    expect(await state.access.grantQuota("u", "g", 500, t0)).toMatchObject({ id: "u", quota: { granted: 1_500n } });
    expect(await state.access.grantQuota("u", "g", 9_999, t0)).toMatchObject({ quota: { granted: 1_500n } });
    await Promise.all(Array.from({ length: 20 }, () => state.access.grantQuota("u", "h", 1, t0)));
    expect(await quotaBooks(state)).toEqual({ granted: 1_501, available: 1_501, held: 0, spent: 0 });
  });

  test("amounts may be as large as they get, and no larger", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: max - 1 });
    await expectReason("INVALID_ARGUMENT", state.access.grantQuota("u", "g", 2, t0));
    await state.access.grantQuota("u", "g", 1, t0);
    expect(await quotaBooks(state)).toMatchObject({ granted: max, available: max });
    for (const amount of [-1, 0.5, Number.NaN, Infinity, max + 1]) {
      await expectReason("INVALID_ARGUMENT", state.access.grantQuota("u", "h", amount, t0));
      const user = { id: "v", tier: "default", quotaMicros: amount };
      await expectReason("INVALID_ARGUMENT", state.access.createUser(user, t0));
    }
    await expectReason("INVALID_ARGUMENT", state.access.createUser({ id: "", tier: "default", quotaMicros: 1 }, t0));
  });

  test("are listed by id, in pages; hostile ones too", async () => {
    await using store = await create();
    const { state } = store;
    for (const id of hostileIds) await state.access.createUser({ id, tier: id, quotaMicros: 1 }, t0);
    const sorted = hostileIds.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const listed: string[] = [];
    for (;;) {
      const page = await state.access.listUsers(listed.at(-1) ?? "", 4);
      if (page.length === 0) break;
      listed.push(...page.map(({ id }) => id));
    }
    expect(listed).toEqual(sorted);
    for (const id of hostileIds) expect(await state.access.getUser(id)).toMatchObject({ id, tier: id });
  });
});

conformance("keys", (create) => {
  test("are found by their hash", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    const key = apiKey({
      id: "k-2",
      hash: "h-2",
      models: ["m", `it's "n"`],
      allowedAddresses: ["10.0.0.0/8"],
      budgetMicros: 0,
      expiresAt: t0 + 5,
    });
    const created = await state.access.createKey(key, t0);
    expect(created).toMatchObject({
      id: "k-2",
      userId: "u",
      name: "a key",
      prefix: "sk-",
      models: key.models,
      allowedAddresses: key.allowedAddresses,
      budgetMicros: 0n,
      spentMicros: 0n,
      expiresAt: timestampFromMs(t0 + 5),
      createdAt: timestampFromMs(t0),
    });
    expect(created.revokedAt).toBeUndefined();
    expect(await state.access.findKey("h-2")).toEqual(created);
    expect(await state.access.findKey("h-3")).toBeUndefined();
    expect((await state.access.findKey("hash of k"))?.budgetMicros).toBeUndefined();
  });

  test("belong to a user that exists, and have an id and a hash of their own", async () => {
    await using store = await create();
    const { state } = store;
    await expectReason("NOT_FOUND", state.access.createKey(apiKey(), t0));
    await givenUser(state);
    await state.access.createUser({ id: "v", tier: "default", quotaMicros: 0 }, t0);
    await expectReason("ALREADY_EXISTS", state.access.createKey(apiKey(), t0));
    await expectReason("ALREADY_EXISTS", state.access.createKey(apiKey({ hash: "new" }), t0));
    await expectReason("ALREADY_EXISTS", state.access.createKey(apiKey({ id: "new", hash: "hash of k" }), t0));
    await expectReason("ALREADY_EXISTS", state.access.createKey(apiKey({ userId: "v", hash: "new" }), t0));
    await expectReason("INVALID_ARGUMENT", state.access.createKey(apiKey({ id: "" }), t0));
    await expectReason("INVALID_ARGUMENT", state.access.createKey(apiKey({ id: "x", budgetMicros: -1 }), t0));
    expect(await state.access.listKeys(undefined, "", 10)).toHaveLength(1);
    // What was refused has taken neither the id nor the hash.
    await state.access.createKey(apiKey({ id: "new", hash: "new" }), t0);
    expect(await state.access.findKey("new")).toMatchObject({ id: "new", userId: "u" });
  });

  test("of many that create one key at the same time, one does", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    for (const fields of [{ id: "same" }, { hash: "same" }]) {
      const calls = Array.from({ length: 20 }, (_, index) =>
        state.access.createKey(apiKey({ id: `${index}`, hash: `${index}`, ...fields }), t0),
      );
      const results = await Promise.allSettled(calls);
      const created = results.filter(({ status }) => status === "fulfilled");
      if ("id" in fields) expect(created).toHaveLength(1);
      else expect(created.length).toBeLessThanOrEqual(1);
      expect(results.filter(({ status }) => status === "rejected").length).toBe(20 - created.length);
    }
  });

  test("a revoked key keeps its first time", async () => {
    await using store = await create();
    const { state } = store;
    await expectReason("NOT_FOUND", state.access.revokeKey("k", t0));
    await givenUser(state);
    expect(await state.access.revokeKey("k", t0 + 5)).toMatchObject({ id: "k", revokedAt: timestampFromMs(t0 + 5) });
    expect(await state.access.revokeKey("k", t0 + 9)).toMatchObject({ revokedAt: timestampFromMs(t0 + 5) });
    expect(await state.access.findKey("hash of k")).toMatchObject({ revokedAt: timestampFromMs(t0 + 5) });
  });

  test("are listed by id, in pages, a user's or everybody's", async () => {
    await using store = await create();
    const { state } = store;
    for (const id of ["u", "v"]) await state.access.createUser({ id, tier: "default", quotaMicros: 1 }, t0);
    for (const [index, id] of hostileIds.entries()) {
      await state.access.createKey(apiKey({ id, hash: `h ${id}`, userId: index % 2 === 0 ? "u" : "v" }), t0);
    }
    const sort = (ids: readonly string[]) => ids.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    expect(await pagedKeys(state, undefined)).toEqual(sort(hostileIds));
    expect(await pagedKeys(state, "u")).toEqual(sort(hostileIds.filter((_, index) => index % 2 === 0)));
    expect(await pagedKeys(state, "w")).toEqual([]);
    for (const id of hostileIds) expect(await state.access.findKey(`h ${id}`)).toMatchObject({ id });
  });
});

conformance("admin keys, tiers and prices", (create) => {
  test("an admin key is known by its hash", async () => {
    await using store = await create();
    const { state } = store;
    expect(await state.access.findAdminKey("h")).toBeUndefined();
    await state.access.addAdminKey(adminKey({ hash: "h" }), t0);
    await state.access.addAdminKey(adminKey({ hash: "h" }), t0 + 1);
    expect(await state.access.findAdminKey("h")).toBeDefined();
    expect(await state.access.findAdminKey("H")).toBeUndefined();
    expect(await state.access.findAdminKey("")).toBeUndefined();
  });

  test("the store is initialized once there is a user or an admin key", async () => {
    await using first = await create();
    expect(await first.state.access.initialized()).toBe(false);
    await first.state.access.addAdminKey(adminKey({ hash: "h" }), t0);
    expect(await first.state.access.initialized()).toBe(true);
    await using second = await create();
    await second.state.access.setTier(tier());
    await second.state.accounts.list();
    expect(await second.state.access.initialized()).toBe(false);
    await second.state.access.createUser({ id: "u", tier: "default", quotaMicros: 0 }, t0);
    expect(await second.state.access.initialized()).toBe(true);
  });

  test("tiers and prices are replaced by name, and listed by it", async () => {
    await using store = await create();
    const { state } = store;
    const tiers = ["b", "a {x}", "c"].map((name) => tier({ name, concurrency: 3n }));
    for (const each of tiers) await state.access.setTier(each);
    await state.access.setTier(tier({ name: "b", concurrency: 0n }));
    expect(await state.access.listTiers()).toEqual([tiers[1], tier({ name: "b", concurrency: 0n }), tiers[2]]);
    const price = (model: string, request: bigint) =>
      message(PriceSchema, {
        model,
        inputMicrosPerMillion: 1_000_000_000_000n,
        cachedInputMicrosPerMillion: 0n,
        requestMicros: request,
      });
    for (const model of ["z", "a/b:c"]) await state.access.setPrice(price(model, 1n));
    await state.access.setPrice(price("z", 2n));
    expect(await state.access.listPrices()).toEqual([price("a/b:c", 1n), price("z", 2n)]);
  });
});

async function pagedKeys(state: State, userId: string | undefined): Promise<string[]> {
  const listed: string[] = [];
  for (;;) {
    const page = await state.access.listKeys(userId, listed.at(-1) ?? "", 3);
    if (page.length === 0) return listed;
    listed.push(...page.map(({ id }) => id));
  }
}
