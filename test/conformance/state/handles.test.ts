// One store, several handles: in this process, in others, and one after the other.
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { silentLog } from "../../../services/kit/log.ts";
import { openState } from "../../../services/state/open.ts";
import type { RaceResult, RaceTask } from "./race-process.ts";
import {
  adminKey,
  admission,
  allUsage,
  apiKey,
  creditBooks,
  expectReason,
  givenUser,
  lease,
  leaseVerdict,
  outcome,
  quotaBooks,
  settlement,
  spec,
  t0,
  tally,
  tier,
  verdict,
  worker,
} from "./given.ts";
import { conformance } from "./implementations.ts";

conformance("handles", (create) => {
  test("answer a ping until they are closed", async () => {
    await using store = await create();
    const other = await store.open();
    await Promise.all([store.state.ping(), other.ping()]);
    await other[Symbol.asyncDispose]();
    await expectReason("STATE_UNAVAILABLE", other.ping());
    await expectReason("STATE_UNAVAILABLE", other.ledger.admit(admission()));
    await other[Symbol.asyncDispose]();
    await store.state.ping();
  });

  test("see each other's writes", async () => {
    await using store = await create();
    const { state } = store;
    const other = await store.open();
    await givenUser(state);
    await state.ledger.admit(admission());
    expect(await other.ledger.hold("u", "req")).toEqual(await state.ledger.hold("u", "req"));
    await other.ledger.settle(settlement());
    expect(await quotaBooks(state)).toMatchObject({ held: 0, spent: 60 });
  });

  test("race for one balance and end exactly at its limit", async () => {
    await using store = await create();
    const { state } = store;
    const other = await store.open();
    await givenUser(state, { quotaMicros: 4_150 });
    const calls = Array.from({ length: 1_000 }, (_, index) =>
      (index % 2 === 0 ? state : other).ledger.admit(admission({ requestId: `r${index}` })),
    );
    expect(tally((await Promise.all(calls)).map(verdict))).toEqual({ admitted: 41, INSUFFICIENT_QUOTA: 959 });
    expect(await quotaBooks(state)).toMatchObject({ available: 50, held: 4_100 });
  });

  test("what was written is there when the store is opened again", async () => {
    await using store = await create();
    {
      await using first = await openState(store.url, { log: silentLog });
      await givenUser(first);
      await first.access.setTier(tier({ name: "gold" }));
      await first.access.addAdminKey(adminKey({ hash: "admin" }), t0);
      await first.accounts.create(spec(), "file", t0);
      await first.workers.put(worker(), 60_000, t0);
      for (const id of ["1", "2"]) {
        await first.ledger.admit(admission({ requestId: id }));
        await first.leases.acquire(lease({ attemptId: id, requestId: id }));
      }
      await first.ledger.settle(settlement({ requestId: "1" }));
      await first.leases.settle(outcome({ attemptId: "1" }), t0);
      await first.outcomes.record(outcome({ attemptId: "1" }), 3_600_000, t0);
      await first.events.append({ at: timestampFromMs(t0), type: "E", accountId: "", workerId: "", message: "" });
      await first.leader.acquire("one", 60_000, t0);
    }
    await using again = await openState(store.url, { log: silentLog });
    expect(await quotaBooks(again)).toEqual({ granted: 1_000, available: 840, held: 100, spent: 60 });
    expect(await creditBooks(again)).toEqual({ granted: 10_000, available: 8_000, held: 1_000, spent: 1_000 });
    expect(await allUsage(again)).toMatchObject([{ requestId: "1" }]);
    expect(await again.ledger.expired(t0 + 60_000, 10)).toMatchObject([{ requestId: "2" }]);
    expect(await again.leases.open("a")).toMatchObject([{ attemptId: "2" }]);
    expect(leaseVerdict(await again.leases.acquire(lease({ attemptId: "1" })))).toBe("settled");
    expect(await again.outcomes.finalOf("req", t0)).toMatchObject({ attemptId: "1" });
    expect((await again.workers.list(t0)).workers).toMatchObject([{ id: "w" }]);
    expect(await again.access.findKey("hash of k")).toMatchObject({ id: "k", spentMicros: 60n });
    expect(await again.access.listTiers()).toMatchObject([{ name: "gold" }]);
    expect(await again.access.findAdminKey("admin")).toBeDefined();
    expect(await again.events.list(0, 10)).toMatchObject({ revision: 1, events: [{ type: "E" }] });
    expect(await again.leader.acquire("two", 60_000, t0)).toMatchObject({ leads: false, owner: "one", epoch: t0 });
  });

  test("processes race for balances and places, and end exactly at their limits", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: 10_050 });
    await state.access.createKey(apiKey({ id: "second", budgetMicros: 0 }), t0);
    await state.accounts.create(spec({ initialMillicredits: 31_500n }), "api", t0);
    const results = await Promise.all(
      ["one", "two"].map((name) => race({ url: store.url, name, count: 500, now: t0 })),
    );
    expect(tally(results.flatMap(({ admissions }) => admissions))).toEqual({ admitted: 100, INSUFFICIENT_QUOTA: 900 });
    expect(tally(results.flatMap(({ leases }) => leases))).toEqual({ acquired: 31, exhausted: 969 });
    expect(await quotaBooks(state)).toEqual({ granted: 10_050, available: 50, held: 10_000, spent: 0 });
    expect(await creditBooks(state)).toEqual({ granted: 31_500, available: 500, held: 31_000, spent: 0 });
  });

  test("what a killed process had been answered is there", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state, { quotaMicros: 1_000_000_000 });
    await state.accounts.create(spec({ initialMillicredits: 1_000_000_000n }), "api", t0);
    const { admitted, acquired } = await raceUntilKilled({ url: store.url, name: "killed", count: 1_000_000, now: t0 });
    const holds = new Set((await state.ledger.expired(t0 + 60_000, 100_000)).map(({ requestId }) => requestId));
    const leases = new Set((await state.leases.open("a")).map(({ attemptId }) => attemptId));
    for (const id of admitted) expect(holds.has(id), id).toBe(true);
    for (const id of acquired) expect(leases.has(id), id).toBe(true);
    expect(await quotaBooks(state)).toMatchObject({ held: holds.size * 100 });
    expect(await creditBooks(state)).toMatchObject({ held: leases.size * 1_000 });
  });
});

function startProcess(task: RaceTask) {
  const child = fork(fileURLToPath(new URL("race-process.ts", import.meta.url)), { execArgv: [] });
  child.send(task);
  return child;
}

async function race(task: RaceTask): Promise<RaceResult> {
  const child = startProcess(task);
  const answers: RaceResult = { admissions: [], leases: [], admitted: [], acquired: [] };
  child.on("message", (part: RaceResult) => {
    for (const key of ["admissions", "leases", "admitted", "acquired"] as const) answers[key].push(...part[key]);
  });
  const [code] = (await once(child, "exit")) as [number | null];
  expect(code).toBe(0);
  return answers;
}

/** Kills the process after some of its answers, in the middle of more. */
async function raceUntilKilled(task: RaceTask): Promise<RaceResult> {
  const child = startProcess(task);
  const answers: RaceResult = { admissions: [], leases: [], admitted: [], acquired: [] };
  child.on("message", (part: RaceResult) => {
    for (const key of ["admissions", "leases", "admitted", "acquired"] as const) answers[key].push(...part[key]);
    if (answers.admitted.length >= 100) child.kill("SIGKILL");
  });
  await once(child, "exit");
  expect(answers.admitted.length).toBeGreaterThanOrEqual(100);
  return answers;
}
