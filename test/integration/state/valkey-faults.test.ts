// What happens to the Valkey store when servers die, hang, come back or change places: calls fail soon and say so, nothing is charged twice, and
// everything goes on by itself afterwards.
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { silentLog } from "../../../services/kit/log.ts";
import { openState } from "../../../services/state/open.ts";
import type { State } from "../../../services/state/state.ts";
import { openValkeyState } from "../../../services/state/valkey/store.ts";
import {
  admission,
  allUsage,
  creditBooks,
  expectReason,
  givenUser,
  lease,
  outcome,
  quotaBooks,
  settlement,
  spec,
  t0,
  worker,
} from "../../conformance/state/given.ts";
import { until } from "../../support/until.ts";
import { connectionNames } from "../../support/valkey-connections.ts";
import { replicated, startValkeyProcess, startValkeySentinels, type ValkeyProcess } from "../../support/valkey.ts";

const host = "127.0.0.1";
const durable = ["--appendonly", "yes", "--appendfsync", "always"];
const open = (url: string) => openState(url, { log: silentLog });

describe("a store that is away", () => {
  let server: ValkeyProcess;
  let url: string;
  beforeAll(async () => {
    server = await startValkeyProcess(durable);
    url = `valkey://${host}:${server.port}`;
  });
  afterAll(() => server[Symbol.asyncDispose]());

  test("fails calls as unavailable, says when to try again, and is found again by itself", async () => {
    await using state = await open(`${url}?prefix=away:`);
    await givenUser(state);
    await state.ledger.admit(admission());
    await server.kill();
    for (const call of [
      state.ping(),
      state.ledger.settle(settlement()),
      state.workers.list(t0),
      state.accounts.list(),
    ]) {
      await expect(call).rejects.toMatchObject({
        reason: "STATE_UNAVAILABLE",
        retryAfterMs: expect.any(Number) as number,
      });
    }
    await server.restart();
    await until("the store answers again", () => state.ping().then(() => true));
    expect(await state.ledger.settle(settlement())).toMatchObject({ settled: true });
    expect(await quotaBooks(state)).toEqual({ granted: 1_000, available: 940, held: 0, spent: 60 });
  });

  test("that hangs fails calls too, and they go on when it wakes up", async () => {
    await using state = await open(`${url}?prefix=hangs:`);
    await givenUser(state);
    server.pause();
    try {
      await expectReason("STATE_UNAVAILABLE", state.ledger.admit(admission()));
    } finally {
      server.resume();
    }
    await until("the store answers again", () => state.ping().then(() => true));
    // Whether the call was lost or came late: repeating it takes the same hold once.
    await state.ledger.admit(admission());
    expect(await quotaBooks(state)).toMatchObject({ held: 100 });
  });

  test("charges nobody twice, however often callers repeat what failed", async () => {
    await using state = await open(`${url}?prefix=twice:`);
    const requests = 300;
    await givenUser(state, { quotaMicros: requests * 100 });
    await state.accounts.create(spec({ initialMillicredits: BigInt(requests * 1_000) }), "api", t0);
    let done = 0;
    const work = Array.from({ length: 10 }, async (_, lane) => {
      for (let index = lane; index < requests; index += 10) {
        await runOnce(state, `r${index}`);
        done++;
      }
    });
    for (const share of [0.2, 0.6]) {
      await until("some requests have run", () => done > requests * share, { everyMs: 1 });
      await server.kill();
      await server.restart();
    }
    await Promise.all(work);
    expect(await quotaBooks(state)).toEqual({ granted: 30_000, available: 12_000, held: 0, spent: 18_000 });
    expect(await creditBooks(state)).toEqual({ granted: 300_000, available: 0, held: 0, spent: 300_000 });
    expect(await allUsage(state)).toHaveLength(requests);
  });

  test("tells listeners to look again when it is back", async () => {
    await using state = await open(`${url}?prefix=hints:`);
    await using other = await open(`${url}?prefix=hints:`);
    let heard = 0;
    using _subscription = state.workers.onChange(() => void heard++);
    await until("the subscription stands", () => heard > 0);
    await server.kill();
    const before = heard;
    await server.restart();
    await until("the listener is told of the return", () => heard > before);
    const back = heard;
    await until("the other handle is connected", () => other.ping().then(() => true));
    await other.workers.put(worker(), 60_000, t0);
    await until("the listener hears of others' changes again", () => heard > back);
  });

  test("forgets its scripts, and learns them again", async () => {
    await using state = await open(`${url}?prefix=scripts:`);
    await givenUser(state);
    const client = new Redis({ host, port: server.port });
    await client.script("FLUSH");
    client.disconnect();
    expect(await state.ledger.admit(admission())).toMatchObject({ admitted: true });
  });

  test("has two connections of a process, which name it, whatever it does and whatever happens", async () => {
    const own = () => connectionNames(server.port).then((names) => names.filter((name) => name.includes("gateway")));
    const both = ["commands", "hints"].map((purpose) => `gateway:${process.pid}:${purpose}`);
    await using state = await openState(`${url}?prefix=count:`, { log: silentLog, service: "gateway" });
    expect(await own()).toEqual(both.slice(0, 1));
    await givenUser(state, { quotaMicros: 1_000_000 });
    const subscriptions = [state.workers, state.accounts, state.ledger].map((each) => each.onChange(() => {}));
    const work = async (name: string) => {
      const admit = (index: number) => state.ledger.admit(admission({ requestId: `${name} ${index}` }));
      await Promise.allSettled(Array.from({ length: 500 }, (_, index) => admit(index)));
    };
    const expectBoth = async () => {
      await until("the store answers", () => state.ping().then(() => true));
      await until("the subscription stands", async () => (await own()).includes(both[1] ?? ""));
      await work("after");
      expect(await own()).toEqual(both);
    };
    await work("before");
    await expectBoth();
    for (let time = 0; time < 3; time += 1) {
      await server.kill();
      await work("while it is away");
      await server.restart();
      await expectBoth();
    }
    server.pause();
    await work("while it hangs");
    server.resume();
    await expectBoth();
    for (const each of subscriptions) each[Symbol.dispose]();
    expect(await own()).toEqual(both);
    await state[Symbol.asyncDispose]();
    await until("both connections are closed", async () => (await own()).length === 0);
  });
});

describe("opening a store", () => {
  test("that is not there fails after a while, and says what to check", async () => {
    const server = await startValkeyProcess();
    await server[Symbol.asyncDispose]();
    for (const url of [
      `valkey://${host}:${server.port}`,
      `valkey+cluster://${host}:${server.port}`,
      `valkey+sentinel://${host}:${server.port}/main`,
    ]) {
      await expect(openValkeyState({ url, log: silentLog, connectTimeoutMs: 500 })).rejects.toMatchObject({
        reason: "STATE_UNAVAILABLE",
        message: expect.stringMatching(/Check its address/) as string,
      });
    }
  });

  test("that comes a little later waits for it", async () => {
    await using server = await startValkeyProcess();
    await server.kill();
    const opening = open(`valkey://${host}:${server.port}`);
    await server.restart();
    await using state = await opening;
    await state.ping();
  });

  test("takes the password of the address, and fails with a wrong one", async () => {
    await using server = await startValkeyProcess(["--requirepass", "pass word"], "pass word");
    await using state = await open(`valkey://:pass%20word@${host}:${server.port}`);
    await state.ping();
    const wrong = { url: `valkey://:wrong@${host}:${server.port}`, log: silentLog, connectTimeoutMs: 500 };
    await expectReason("STATE_UNAVAILABLE", openValkeyState(wrong));
  });

  test("with a database of its own sees nothing of others", async () => {
    await using server = await startValkeyProcess();
    await using first = await open(`valkey://${host}:${server.port}/1`);
    await using second = await open(`valkey://${host}:${server.port}/2`);
    await givenUser(first);
    expect(await second.access.getUser("u")).toBeUndefined();
  });
});

describe("behind Sentinels", () => {
  test("a replica takes over when the master dies, and everything goes on", async () => {
    await using sentinels = await startValkeySentinels();
    await using state = await open(sentinels.url);
    await givenUser(state);
    await state.ledger.admit(admission());
    await replicated(sentinels.master.port);
    await sentinels.master.kill();
    const settled = await until(
      "the new master settles",
      async () => (await state.ledger.settle(settlement()).catch(unavailable)) ?? undefined,
      { timeoutMs: 60_000 },
    );
    expect(settled.settled).toBe(true);
    expect(await quotaBooks(state)).toEqual({ granted: 1_000, available: 940, held: 0, spent: 60 });
  });
});

/** Repeats each step until the store has answered it. */
async function runOnce(state: State, id: string): Promise<void> {
  const insist = <T>(work: () => Promise<T>) => until(`${id} is answered`, async () => ({ answer: await work() }));
  await insist(async () => {
    const result = await state.ledger.admit(admission({ requestId: id }));
    expect(result.admitted).toBe(true);
  });
  await insist(() => state.leases.acquire(lease({ attemptId: id, requestId: id })));
  await insist(() => state.leases.settle(outcome({ attemptId: id, requestId: id }), t0));
  await insist(() => state.ledger.settle(settlement({ requestId: id })));
}

function unavailable(error: unknown): undefined {
  expect(error).toMatchObject({ reason: "STATE_UNAVAILABLE" });
}
