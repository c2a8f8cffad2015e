// How many commands an operation sends to Valkey: what stays small however much there is.
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { silentLog } from "../../../services/kit/log.ts";
import { openState } from "../../../services/state/open.ts";
import type { State } from "../../../services/state/state.ts";
import {
  admission,
  givenUser,
  lease,
  minuteMs,
  outcome,
  settlement,
  spec,
  t0,
  worker,
} from "../../conformance/state/given.ts";
import { until } from "../../support/until.ts";
import { startValkeyProcess } from "../../support/valkey.ts";

const cleanUp = new AsyncDisposableStack();
let state: State;
let client: Redis;
let monitor: Redis;
let seen: string[] = [];

beforeAll(async () => {
  const { port } = cleanUp.use(await startValkeyProcess());
  state = cleanUp.use(await openState(`valkey://127.0.0.1:${port}`, { log: silentLog }));
  client = cleanUp.adopt(new Redis({ host: "127.0.0.1", port }), (each) => each.disconnect());
  monitor = cleanUp.adopt(await client.monitor(), (each) => each.disconnect());
  monitor.on("monitor", (_time: string, args: string[], source: string) => {
    if (source !== "lua") seen.push(args[0]?.toLowerCase() ?? "");
  });
});
beforeEach(() => client.flushall());
afterAll(() => cleanUp.disposeAsync());

/** Names of the commands that the work sends, without those that hint at changes. */
async function commandsOf(work: () => Promise<unknown>): Promise<string[]> {
  // What hints at earlier changes comes late; the mark is seen after all that was sent before it.
  const mark = async (name: string) => {
    await client.echo(name);
    await until("the monitor has seen all", () => seen.includes("echo"));
    const before = seen.filter((each) => each !== "echo" && each !== "publish");
    seen = [];
    return before;
  };
  await mark("begin");
  await work();
  return mark("end");
}

test("listing workers takes two, up to a thousand workers", async () => {
  const put = (index: number) => state.workers.put(worker({ id: `w${index}` }), 60_000, t0);
  for (let index = 0; index < 10; index += 1) await put(index);
  // A script that is new to the server is sent twice.
  await state.workers.list(t0);
  expect(await commandsOf(() => state.workers.list(t0))).toEqual(["evalsha", "mget"]);
  await Promise.all(Array.from({ length: 1_000 }, (_, index) => put(index)));
  expect(await commandsOf(() => state.workers.list(t0))).toEqual(["evalsha", "mget"]);
  expect((await state.workers.list(t0)).workers).toHaveLength(1_000);
  await put(1_000);
  expect(await commandsOf(() => state.workers.list(t0))).toEqual(["evalsha", "mget", "mget"]);
});

test("recording an outcome takes one, whether it is the first of its attempt or not", async () => {
  await state.outcomes.record(outcome({ attemptId: "0" }), minuteMs, t0);
  for (const content of [true, true, false]) {
    const record = () => state.outcomes.record(outcome({ attemptId: "1", content }), minuteMs, t0);
    expect(await commandsOf(record)).toEqual(["evalsha"]);
  }
});

test("a beat that brings nothing new takes one, and one that does takes four, however many models there are", async () => {
  const pools = [{ accountId: "a", models: Array.from({ length: 50 }, (_, index) => `m${index}`), slots: 1 }];
  await state.workers.put(worker({ pools }), minuteMs, t0);
  const beat = (healthReason: string) => state.workers.beat(worker({ pools, healthReason }), minuteMs, t0);
  await beat("first");
  expect(await commandsOf(() => beat("first"))).toEqual(["evalsha"]);
  expect(await commandsOf(() => beat("second"))).toEqual(["evalsha", "evalsha", "evalsha", "incr"]);
});

test("a request's way into and out of the books takes one each: admitted and settled, leased and settled", async () => {
  await givenUser(state);
  await state.accounts.create(spec(), "api", t0);
  const all = (id: string) => [
    () => state.ledger.admit(admission({ requestId: id })),
    () => state.ledger.settle(settlement({ requestId: id })),
    () => state.leases.acquire(lease({ attemptId: id, requestId: id })),
    () => state.leases.settle(outcome({ attemptId: id, requestId: id }), t0),
  ];
  // The first of a minute also marks where the sweeps look.
  for (const operation of all("first")) await operation();
  for (const operation of all("second")) expect(await commandsOf(operation)).toEqual(["evalsha"]);
});
