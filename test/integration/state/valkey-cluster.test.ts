// A Cluster of three masters, some of which die or hang: only what they have is away, calls for it fail soon, and it is found again by itself.
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { silentLog } from "../../../services/kit/log.ts";
import { openState } from "../../../services/state/open.ts";
import type { State } from "../../../services/state/state.ts";
import { slotOf } from "../../../services/state/valkey/slots.ts";
import { admission, givenUser, hostileIds, quotaBooks, t0, worker } from "../../conformance/state/given.ts";
import { until } from "../../support/until.ts";
import { replicated, startValkeyCluster } from "../../support/valkey.ts";
import { startReplica } from "../../support/valkey-replica.ts";
import { connectionNames } from "../../support/valkey-connections.ts";

const open = (url: string) => openState(url, { log: silentLog });
const users = Array.from({ length: 30 }, (_, index) => `user ${index}`);
/** One after another, so many calls that wait for their time-outs would take minutes longer than a test may. */
const many = 200;

/** Users spread over all slots, each of whom wants in. */
async function givenUsers(state: State) {
  for (const [index, id] of users.entries()) await givenUser(state, { id, key: { id: `k${index}` } });
  const ask = async (id: string) => {
    try {
      return await state.ledger.admit(admission({ requestId: id, userId: id, keyId: `k${users.indexOf(id)}` }));
    } catch (error) {
      expect(error).toMatchObject({ reason: "STATE_UNAVAILABLE", retryAfterMs: expect.any(Number) as number });
      return undefined;
    }
  };
  /** Asks for all at once; those who got no answer. */
  const unanswered = async () => {
    const answers = await Promise.all(users.map(ask));
    return users.filter((_, index) => answers[index] === undefined);
  };
  return { ask, unanswered };
}

async function expectAllAdmitted(state: State, ask: (id: string) => Promise<unknown>): Promise<void> {
  for (const id of users) {
    await until(`${id} is admitted`, async () => (await ask(id)) !== undefined, { timeoutMs: 60_000 });
    expect(await quotaBooks(state, id)).toMatchObject({ granted: 1_000, held: 100 });
  }
}

test("a node that dies takes only its slots along, and comes back", async () => {
  await using cluster = await startValkeyCluster({ requireFullCoverage: false, durable: true });
  await using state = await open(cluster.url);
  const { ask, unanswered } = await givenUsers(state);
  await cluster.masters[1]?.kill();
  const away = await unanswered();
  expect(away.length).toBeGreaterThan(0);
  expect(away.length).toBeLessThan(users.length);
  for (let call = 0; call < many; call += 1) expect(await ask(away[call % away.length] ?? "")).toBeUndefined();
  await cluster.masters[1]?.restart();
  await expectAllAdmitted(state, ask);
});

test("a node that hangs is waited for once, the others answer all the while, and it is asked again when it wakes up", async () => {
  await using cluster = await startValkeyCluster({ requireFullCoverage: false });
  await using state = await open(cluster.url);
  const { ask, unanswered } = await givenUsers(state);
  cluster.masters[1]?.pause();
  let away: string[] = [];
  try {
    away = await unanswered();
    expect(away.length).toBeGreaterThan(0);
    expect(away.length).toBeLessThan(users.length);
    const present = users.filter((id) => !away.includes(id));
    for (let call = 0; call < many; call += 1) {
      expect(await ask(away[call % away.length] ?? "")).toBeUndefined();
      expect(await ask(present[call % present.length] ?? "")).toMatchObject({ admitted: true });
    }
  } finally {
    cluster.masters[1]?.resume();
  }
  await expectAllAdmitted(state, ask);
});

test("a node that hangs and stops the whole Cluster is waited for no longer than one that stops alone", async () => {
  await using cluster = await startValkeyCluster();
  await using state = await open(cluster.url);
  const { ask, unanswered } = await givenUsers(state);
  cluster.masters[1]?.pause();
  try {
    await until("the others have given up, too", async () => (await unanswered()).length === users.length, {
      timeoutMs: 60_000,
    });
    for (let call = 0; call < many; call += 1) expect(await ask(users[call % users.length] ?? "")).toBeUndefined();
  } finally {
    cluster.masters[1]?.resume();
  }
  await expectAllAdmitted(state, ask);
});

test("a replica takes the place of a master that hangs, and is found", async () => {
  await using cluster = await startValkeyCluster();
  const [, hanging] = cluster.masters;
  if (!hanging) throw new Error("There is no second master.");
  await using _replica = await startReplica(cluster, hanging);
  await using state = await open(cluster.url);
  const { ask, unanswered } = await givenUsers(state);
  // What the replica has not heard of would be gone.
  await replicated(hanging.port);
  hanging.pause();
  try {
    expect((await unanswered()).length).toBeGreaterThan(0);
    await expectAllAdmitted(state, ask);
  } finally {
    hanging.resume();
  }
  await until("everybody is answered still", async () => (await unanswered()).length === 0);
});

test("each node has one connection of a process for commands, and the Cluster has one for hints, whatever happens", async () => {
  await using cluster = await startValkeyCluster({ requireFullCoverage: false, durable: true });
  await using state = await openState(cluster.url, { log: silentLog, service: "gateway" });
  const { ask, unanswered } = await givenUsers(state);
  using _subscription = state.workers.onChange(() => {});
  const own = `gateway:${process.pid}`;
  const names = async () => {
    const all = await Promise.all(cluster.masters.map(({ port }) => connectionNames(port)));
    return all.flat().filter((name) => name.includes(own));
  };
  // The client asks for the slots over one more, which it closes again.
  const expected = [...Array<string>(3).fill(`${own}:commands`), `${own}:hints`];
  const expectFew = async () => {
    await expectAllAdmitted(state, ask);
    await until("the connections are as few as ever", async () => {
      const lasting = (await names()).filter((name) => !name.includes("refresher"));
      return JSON.stringify(lasting.toSorted()) === JSON.stringify(expected.toSorted());
    });
  };
  await expectFew();
  await cluster.masters[1]?.kill();
  for (let time = 0; time < 5; time += 1) await unanswered();
  await cluster.masters[1]?.restart();
  await expectFew();
  cluster.masters[2]?.pause();
  for (let time = 0; time < 5; time += 1) await unanswered();
  cluster.masters[2]?.resume();
  await expectFew();
});

test("the slot of a key is the one that servers compute, and workers of all slots are listed together", async () => {
  await using cluster = await startValkeyCluster();
  await using state = await open(cluster.url);
  const [port] = cluster.masters.map((master) => master.port);
  const client = new Redis({ host: "127.0.0.1", port: port ?? 0 });
  try {
    const keys = [...hostileIds, "pod:{w}", "a{}b", "a{b}c{d}", "a{b", "}{a}", "leader:controller", ""];
    for (const key of keys)
      expect({ key, slot: slotOf(key) }).toEqual({ key, slot: await client.cluster("KEYSLOT", key) });
  } finally {
    client.disconnect();
  }
  const ids = Array.from({ length: 200 }, (_, index) => `w-${String(index).padStart(3, "0")}`);
  await Promise.all(ids.map((id) => state.workers.put(worker({ id }), 60_000, t0)));
  expect((await state.workers.list(t0)).workers.map(({ id }) => id)).toEqual(ids);
});
