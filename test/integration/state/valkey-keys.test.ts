// What stands in the Valkey store under which key: what docs/state.md promises to operators, and that nothing stays that nobody needs.
import { create } from "@bufbuild/protobuf";
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { AdminRole, PriceSchema, RateLimitsSchema } from "#gen/drawbridge/v1/access_service";
import { BreakerSchema, BreakerState } from "#gen/drawbridge/v1/account";
import { ChannelSpecSchema } from "#gen/drawbridge/v1/channel";
import { silentLog } from "../../../services/kit/log.ts";
import { openState } from "../../../services/state/open.ts";
import type { State } from "../../../services/state/state.ts";
import {
  adminKey,
  admission,
  givenUser,
  lease,
  minuteMs,
  outcome,
  settlement,
  spec,
  t0,
  tier,
  worker,
} from "../../conformance/state/given.ts";
import { documentedName, readDocumentedKeys } from "../../support/documented-keys.ts";
import { startValkeyProcess, type ValkeyProcess } from "../../support/valkey.ts";

let server: ValkeyProcess;
let state: State;
let client: Redis;

beforeAll(async () => {
  server = await startValkeyProcess();
  state = await openState(`valkey://127.0.0.1:${server.port}`, { log: silentLog });
  client = new Redis({ host: "127.0.0.1", port: server.port });
});
beforeEach(() => client.flushall());
afterAll(async () => {
  client.disconnect();
  await state[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

describe("workers", () => {
  test("stand in a key that ends with their lease, and in the sets of their models", async () => {
    await state.workers.put(worker({ pools: [pool("m"), pool("n")] }), 15_000, t0);
    expect(JSON.parse((await client.get("pod:{w}")) ?? "")).toMatchObject({
      incarnation: "w-1",
      registeredAt: t0,
      expiresAt: t0 + 15_000,
      worker: { id: "w", address: "http://127.0.0.1:1" },
    });
    expect(await client.pttl("pod:{w}")).toBeGreaterThan(10_000);
    expect(await client.pttl("pod:{w}")).toBeLessThanOrEqual(15_000);
    expect(await client.smembers("model:{m}:pods")).toEqual(["w"]);
    expect(await client.smembers("model:{n}:pods")).toEqual(["w"]);
  });

  test("leave the sets of models that they no longer serve", async () => {
    await state.workers.put(worker({ pools: [pool("m"), pool("n")] }), 15_000, t0);
    await state.workers.beat(worker({ pools: [pool("n"), pool("o")] }), 15_000, t0);
    expect(await client.keys("model:*")).toHaveLength(2);
    await state.workers.put(worker({ incarnation: "w-2", pools: [pool("p")] }), 15_000, t0);
    expect(await client.keys("model:*")).toEqual(["model:{p}:pods"]);
  });

  test("that are removed, or die, leave nothing behind but the revision", async () => {
    await state.workers.put(worker(), 15_000, t0);
    await state.workers.remove("w", "w-1", t0);
    await state.workers.put(worker(), 15_000, t0);
    // The server itself lets go of a dead worker's key.
    await client.del("pod:{w}");
    expect((await state.workers.list(t0)).workers).toEqual([]);
    expect(await state.workers.prune(t0 + 15_000)).toEqual(["w"]);
    expect(await client.keys("*")).toEqual(["revision:{pods}"]);
  });
});

describe("accounts", () => {
  test("stand in a key of their own, and their credits in a whole number", async () => {
    await state.accounts.create(spec(), "api", t0);
    await state.leases.acquire(lease());
    expect(JSON.parse((await client.get("account:{a}")) ?? "")).toMatchObject({ spec: { id: "a" }, generation: 1 });
    expect(await client.get("credits:{a}")).toBe("9000");
    expect(await client.hgetall("books:{a}")).toMatchObject({ granted: "10000", held: "1000", spent: "0" });
    expect(await client.ttl("account:{a}")).toBe(-1);
    expect(await client.ttl("credits:{a}")).toBe(-1);
  });

  test("keep no place for a lease that is settled, and forget it after a while", async () => {
    await state.accounts.create(spec(), "api", t0);
    await state.leases.acquire(lease());
    await state.leases.settle(outcome(), t0);
    expect(await client.keys("leases:*")).toEqual([]);
    expect(await client.hgetall("lease:{a}:att")).toEqual({ settled: "1000" });
    expect(await client.pttl("lease:{a}:att")).toBeGreaterThan(0);
  });

  test("have a breaker in JSON", async () => {
    await state.breakers.compareAndSet(create(BreakerSchema, { accountId: "a", state: BreakerState.OPEN }));
    expect(JSON.parse((await client.get("cb:{a}")) ?? "")).toEqual({
      accountId: "a",
      state: "BREAKER_STATE_OPEN",
      revision: "1",
    });
  });
});

describe("users", () => {
  test("keep no hold that is settled", async () => {
    await givenUser(state);
    await state.ledger.admit(admission());
    expect(await client.exists("hold:{u}:req", "holds:{u}")).toBe(2);
    await state.ledger.settle(settlement());
    expect(await client.exists("hold:{u}:req", "holds:{u}")).toBe(0);
    expect(await client.hget("user:{u}", "spent")).toBe("60");
    expect(JSON.parse((await client.hget("entries:{u}", "req")) ?? "")).toMatchObject({ costMicros: "60", keyId: "k" });
  });

  test("are looked after by the sweep as long as they have something open, and a while longer", async () => {
    await givenUser(state, { id: "sweep", key: { id: "k-sweep" } });
    const request = admission({ userId: "sweep", keyId: "k-sweep" });
    await state.ledger.admit(request);
    expect(await state.ledger.expired(t0 + 30 * minuteMs, 10)).toHaveLength(1);
    await state.ledger.settle(settlement({ userId: "sweep" }));
    await state.ledger.expired(t0 + minuteMs, 10);
    expect(await client.zrange("active:users", "0", "-1")).toEqual(["sweep"]);
    await state.ledger.expired(t0 + 30 * minuteMs, 10);
    expect(await client.exists("active:users")).toBe(0);
  });

  test("are found by the sweep of a new process even if their mark was lost", async () => {
    await givenUser(state, { id: "lost", key: { id: "k-lost" } });
    await state.ledger.admit(admission({ userId: "lost", keyId: "k-lost" }));
    await client.del("active:users");
    await using other = await openState(`valkey://127.0.0.1:${server.port}`, { log: silentLog });
    expect(await other.ledger.expired(t0 + minuteMs, 10)).toMatchObject([{ userId: "lost" }]);
  });

  test("let go of an idempotency key when it expires", async () => {
    await givenUser(state, { id: "i", key: { id: "k-i" } });
    const idempotency = { key: "key", bodyHash: "body", expiresAt: t0 + minuteMs };
    await state.ledger.admit(admission({ userId: "i", keyId: "k-i", idempotency }));
    expect(await client.pttl("idempotency:{i}:key")).toBeGreaterThan(0);
    expect(await client.pttl("idempotency:{i}:key")).toBeLessThanOrEqual(minuteMs);
  });
});

describe("the leader's lock", () => {
  test("is a key that ends by itself; its epoch stays", async () => {
    await state.leader.acquire("me", 60_000, t0);
    expect(JSON.parse((await client.get("leader:controller")) ?? "")).toMatchObject({ owner: "me", epoch: t0 });
    expect(await client.pttl("leader:controller")).toBeGreaterThan(0);
    await client.del("leader:controller");
    expect(await state.leader.current(t0)).toBeUndefined();
    expect(await state.leader.acquire("me", 60_000, t0)).toMatchObject({ epoch: t0 + 1 });
  });
});

test("what was written before keys had roles and rotated is still good", async () => {
  await givenUser(state, { id: "old", key: { id: "k-old" } });
  await client.hdel("key:{old}:k-old", "hash");
  await client.hset("admin-keys", "hash-of-an-old-admin-key", `${t0}`);
  expect(await state.access.findKey("hash of k-old")).toMatchObject({ id: "k-old" });
  await state.access.rotateKey("k-old", { prefix: "sk-", hash: "new", previousEndsAt: t0 }, t0);
  expect(await state.access.findKey("new")).toMatchObject({ id: "k-old" });
  expect(await state.access.findKey("hash of k-old")).toBeUndefined();
  expect(await state.access.findAdminKey("hash-of-an-old-admin-key")).toMatchObject({ role: AdminRole.ADMIN });
  const [admin] = await state.access.listAdminKeys();
  expect(await state.access.revokeAdminKey(admin?.id ?? "", t0)).toBe(false);
});

test("every key is one of those that the documentation names, of the type and with the end that it says", async () => {
  const documented = await readDocumentedKeys();
  const limits = create(RateLimitsSchema, { concurrency: 9n });
  await givenUser(state, { id: "d", key: { id: "k-d", limits } });
  await state.access.grantQuota("d", "g", 1, t0);
  const idempotency = { key: "key", bodyHash: "body", expiresAt: t0 + 20 * minuteMs };
  for (const requestId of ["1", "2"]) {
    const whose = { userId: "d", keyId: "k-d", requestId };
    await state.ledger.admit(
      admission({ ...whose, ...(requestId === "1" ? { idempotency } : {}), now: t0 + 10 * minuteMs }),
    );
  }
  await state.ledger.settle(settlement({ userId: "d", requestId: "1" }));
  await state.access.addAdminKey(adminKey({ hash: "h" }), t0);
  const code = { id: "c", name: "", prefix: "DB-", hash: "h", quotaMicros: 1, expiresAt: undefined };
  await state.access.addCodes([code], t0);
  await state.accounts.create(spec(), "api", t0);
  await state.accounts.setConditions("a", [], t0);
  await state.accounts.grant("a", "g", 1, t0);
  // One that has marked nobody yet.
  await using fresh = await openState(`valkey://127.0.0.1:${server.port}`, { log: silentLog });
  await fresh.leases.acquire(lease());
  await state.outcomes.record(outcome(), minuteMs, t0);
  await state.breakers.compareAndSet(create(BreakerSchema, { accountId: "a" }));
  await state.workers.put(worker(), 15_000, t0);
  await state.leader.acquire("me", 60_000, t0);
  await state.events.append({ type: "E", accountId: "", workerId: "", message: "" });
  await state.demand.report("s", "m", 1, 60_000, t0);
  await state.identify("store");
  await state.access.setTier(tier());
  await state.access.setPrice(create(PriceSchema, { model: "m" }));
  await state.channels.create(create(ChannelSpecSchema, { id: "c" }), "api", t0);
  const names = await client.keys("*");
  expect(names.length).toBeGreaterThan(25);
  const missing = new Set(documented.keys());
  for (const name of names) {
    const known = documentedName(name);
    missing.delete(known);
    const ends = (await client.pttl(name)) > 0;
    expect({ known, type: await client.type(name) }).toEqual({ known, type: documented.get(known)?.type });
    if (documented.get(known)?.lives === "for ever") expect({ known, ends }).toEqual({ known, ends: false });
    if (/^\d+ s|^as the/.test(documented.get(known)?.lives ?? ""))
      expect({ known, ends }).toEqual({ known, ends: true });
  }
  expect([...missing]).toEqual([]);
});

function pool(model: string) {
  return { accountId: "a", models: [model], slots: 1, availableSlots: 1 };
}
