import { create as message } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { AdminRole, BudgetWindow, RateLimitsSchema } from "#gen/drawbridge/v1/access_service";
import type { NewCode, State } from "../../../services/state/state.ts";
import {
  admission,
  adminKey,
  apiKey,
  expectReason,
  givenUser,
  hostileIds,
  quotaBooks,
  settlement,
  t0,
  tally,
  verdict,
} from "./given.ts";
import { conformance } from "./implementations.ts";

conformance("users who change", (create) => {
  test("a change touches what it names", async () => {
    await using store = await create();
    const { state } = store;
    await expectReason("NOT_FOUND", state.access.updateUser("u", { tier: "gold" }, t0));
    await givenUser(state);
    expect(await state.access.updateUser("u", { tier: "gold" }, t0)).toMatchObject({ tier: "gold", disabled: false });
    expect(await state.access.updateUser("u", { disabled: true }, t0)).toMatchObject({ tier: "gold", disabled: true });
    expect(await state.access.updateUser("u", {}, t0)).toMatchObject({ tier: "gold", disabled: true });
    expect(await quotaBooks(state)).toMatchObject({ granted: 1_000 });
  });

  test("one who is disabled starts nothing, and what runs settles", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await state.ledger.admit(admission());
    await state.access.updateUser("u", { disabled: true }, t0);
    expect(verdict(await state.ledger.admit(admission({ requestId: "2" })))).toBe("PERMISSION_DENIED");
    expect(await state.ledger.settle(settlement())).toMatchObject({ settled: true, entry: { costMicros: 60n } });
    await state.access.updateUser("u", { disabled: false }, t0);
    expect(verdict(await state.ledger.admit(admission({ requestId: "2" })))).toBe("admitted");
  });

  test("one who is deleted is gone with their keys; what runs settles, and the books stay", async () => {
    await using store = await create();
    const { state } = store;
    await expectReason("NOT_FOUND", state.access.deleteUser("u", t0));
    for (const id of ["t", "u", "v"]) await givenUser(state, { id, key: { id: `k-${id}` } });
    await state.ledger.admit(admission({ keyId: "k-u" }));
    await state.access.deleteUser("u", t0 + 5);
    await expectReason("NOT_FOUND", state.access.deleteUser("u", t0 + 6));
    expect(await state.access.getUser("u")).toBeUndefined();
    expect((await state.access.listUsers("", 10)).map(({ id }) => id)).toEqual(["t", "v"]);
    expect(await state.access.findKey("hash of k-u")).toMatchObject({ revokedAt: timestampFromMs(t0 + 5) });
    expect(await state.access.findKey("hash of k-v")).not.toHaveProperty("revokedAt");
    expect(verdict(await state.ledger.admit(admission({ requestId: "2", keyId: "k-u" })))).toBe("UNAUTHENTICATED");
    expect(await state.ledger.settle(settlement())).toMatchObject({ settled: true });
    expect(await quotaBooks(state)).toEqual({ granted: 1_000, available: 940, held: 0, spent: 60 });
    await expectReason("NOT_FOUND", state.access.grantQuota("u", "g", 1, t0));
    await expectReason("NOT_FOUND", state.access.updateUser("u", { tier: "gold" }, t0));
    await expectReason("NOT_FOUND", state.access.createKey(apiKey({ id: "new" }), t0));
    await expectReason("ALREADY_EXISTS", state.access.createUser({ id: "u", tier: "default", quotaMicros: 1 }, t0));
  });
});

conformance("keys that change", (create) => {
  test("a change touches what it names, and undefined takes away", async () => {
    await using store = await create();
    const { state } = store;
    await expectReason("NOT_FOUND", state.access.updateKey("k", { name: "x" }, t0));
    await givenUser(state, { key: { models: ["m"], allowedAddresses: ["10.0.0.0/8"], expiresAt: t0 + 10 } });
    const limits = message(RateLimitsSchema, { concurrency: 0n });
    const budget = { micros: 7, window: BudgetWindow.MONTH };
    const changed = await state.access.updateKey("k", { name: "it's", budget, limits }, t0);
    expect(changed).toMatchObject({
      name: "it's",
      models: ["m"],
      allowedAddresses: ["10.0.0.0/8"],
      budgetMicros: 7n,
      budget: { micros: 7n, window: BudgetWindow.MONTH, spentMicros: 0n },
      limits,
      expiresAt: timestampFromMs(t0 + 10),
    });
    expect(await state.access.findKey("hash of k")).toEqual(changed);
    const open = await state.access.updateKey(
      "k",
      { models: [], allowedAddresses: [], budget: undefined, limits: undefined, expiresAt: undefined },
      t0,
    );
    expect(open).toMatchObject({ name: "it's", models: [], allowedAddresses: [] });
    for (const field of ["budgetMicros", "budget", "limits", "expiresAt"] as const) expect(open[field]).toBeUndefined();
  });

  test("a rotated key keeps all but its secret, and the one before works until its grace is over", async () => {
    await using store = await create();
    const { state } = store;
    const secret = (hash: string, previousEndsAt: number) => ({ prefix: `sk-${hash}`, hash, previousEndsAt });
    await expectReason("NOT_FOUND", state.access.rotateKey("k", secret("h", t0), t0));
    await givenUser(state, { key: { budgetMicros: 500, expiresAt: t0 + 1_000 } });
    await state.ledger.admit(admission());
    await state.ledger.settle(settlement());
    const rotated = await state.access.rotateKey("k", secret("h1", t0 + 50), t0);
    expect(rotated).toMatchObject({
      id: "k",
      prefix: "sk-h1",
      spentMicros: 60n,
      expiresAt: timestampFromMs(t0 + 1_000),
    });
    expect(rotated.previousEndsAt).toEqual(timestampFromMs(t0 + 50));
    expect(await state.access.findKey("h1")).toEqual(rotated);
    expect(await state.access.findKey("hash of k")).toMatchObject({ id: "k", expiresAt: timestampFromMs(t0 + 50) });
    await state.access.rotateKey("k", secret("h2", t0 + 5_000), t0);
    expect(await state.access.findKey("hash of k")).toBeUndefined();
    expect(await state.access.findKey("h1")).toMatchObject({ expiresAt: timestampFromMs(t0 + 1_000) });
    expect(await state.access.findKey("h2")).toMatchObject({ id: "k" });
    await state.access.createKey(apiKey({ id: "other" }), t0);
    await expectReason("ALREADY_EXISTS", state.access.rotateKey("other", secret("h2", t0), t0));
    await expectReason("ALREADY_EXISTS", state.access.rotateKey("other", secret("h1", t0), t0));
    expect(verdict(await state.ledger.admit(admission({ requestId: "2" })))).toBe("admitted");
  });
});

conformance("admin keys", (create) => {
  test("are found by their hash and listed, oldest first", async () => {
    await using store = await create();
    const { state } = store;
    const made = await state.access.addAdminKey(adminKey({ id: "z", name: "it's", role: AdminRole.READ_ONLY }), t0);
    expect(made).toMatchObject({ id: "z", name: "it's", role: AdminRole.READ_ONLY, createdAt: timestampFromMs(t0) });
    await state.access.addAdminKey(adminKey({ id: "a" }), t0 + 1);
    expect(await state.access.addAdminKey(adminKey({ id: "b", hash: "hash of z" }), t0)).toEqual(made);
    expect(await state.access.findAdminKey("hash of z")).toEqual(made);
    expect((await state.access.listAdminKeys()).map(({ id }) => id)).toEqual(["z", "a"]);
  });

  test("the last one that may do everything stays", async () => {
    await using store = await create();
    const { state } = store;
    await state.access.addAdminKey(adminKey({ id: "one" }), t0);
    await state.access.addAdminKey(adminKey({ id: "two" }), t0);
    await state.access.addAdminKey(adminKey({ id: "reader", role: AdminRole.READ_ONLY }), t0);
    const results = await Promise.all(["one", "two"].map((id) => state.access.revokeAdminKey(id, t0)));
    expect(tally(results.map(String))).toEqual({ true: 1, false: 1 });
    expect(await state.access.revokeAdminKey("reader", t0)).toBe(true);
    expect(await state.access.listAdminKeys()).toHaveLength(1);
    await expectReason("NOT_FOUND", state.access.revokeAdminKey("reader", t0));
    expect(await state.access.findAdminKey("hash of reader")).toBeUndefined();
  });
});

conformance("redemption codes", (create) => {
  const code = (id: string, fields: Partial<NewCode> = {}): NewCode => {
    return { id, name: "batch", prefix: "DB-", hash: `hash ${id}`, quotaMicros: 500, expiresAt: undefined, ...fields };
  };
  const redeem = async (state: State, id: string, userId = "u", now = t0) => {
    const result = await state.access.redeemCode(`hash ${id}`, userId, now);
    return result.redeemed ? Number(result.user.quota?.available) : result.refused;
  };

  test("are worth their amount once, to whoever is first", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await givenUser(state, { id: "v", key: { id: "k-v" } });
    await state.access.addCodes([code("c"), code("d")], t0);
    const users = Array.from({ length: 40 }, (_, index) => (index % 2 === 0 ? "u" : "v"));
    const results = await Promise.all(users.map((userId) => redeem(state, "c", userId)));
    expect(tally(results.map(String))).toEqual({ 1500: 1, used: 39 });
    const { granted: ofU } = await quotaBooks(state, "u");
    const { granted: ofV } = await quotaBooks(state, "v");
    expect(ofU + ofV).toBe(2_500);
    const [used, fresh] = await state.access.listCodes("", 10);
    expect(used).toMatchObject({ id: "c", quotaMicros: 500n, redeemedBy: ofU > ofV ? "u" : "v" });
    expect(used?.redeemedAt).toEqual(timestampFromMs(t0));
    expect(fresh).toMatchObject({ id: "d", redeemedBy: "" });
    expect(fresh?.redeemedAt).toBeUndefined();
  });

  test("end, are refused where they are not known, and are for users who are there", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await state.access.addCodes([code("c", { expiresAt: t0 + 10 })], t0);
    await expectReason("NOT_FOUND", redeem(state, "c", "nobody"));
    expect(await redeem(state, "x")).toBe("unknown");
    expect(await redeem(state, "c", "u", t0 + 10)).toBe("expired");
    expect(await redeem(state, "c", "u", t0 + 9)).toBe(1_500);
    expect(await redeem(state, "c", "u", t0 + 9)).toBe("used");
  });

  test("are nobody else's, and listed by id, hostile ones too", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await state.access.addCodes(
      hostileIds.map((id) => code(id)),
      t0,
    );
    await expectReason("ALREADY_EXISTS", state.access.addCodes([code("{")], t0));
    await expectReason("ALREADY_EXISTS", state.access.addCodes([code("new", { hash: "hash {" })], t0));
    const ids: string[] = [];
    for (let after = ""; ; after = ids.at(-1) ?? "") {
      const page = await state.access.listCodes(after, 7);
      ids.push(...page.map(({ id }) => id));
      if (page.length < 7) break;
    }
    expect(ids.toSorted()).toEqual(hostileIds.toSorted());
    expect(ids).toEqual(ids.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
    for (const [index, id] of hostileIds.entries()) expect(await redeem(state, id)).toBe(1_500 + 500 * index);
  });
});
