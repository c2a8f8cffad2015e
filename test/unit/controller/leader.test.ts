import { afterEach, describe, expect, it } from "vitest";
import { createLeaderIdentity } from "../../../services/controller/leader-identity.ts";
import { createLeadership, type Lead } from "../../../services/controller/leader.ts";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { openState } from "../../../services/state/open.ts";
import type { LeaderLock } from "../../../services/state/state.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

let resources = new AsyncDisposableStack();
afterEach(async () => {
  await resources.disposeAsync();
  resources = new AsyncDisposableStack();
});

/** The real lock, whose answers can be made to fail or to stay away. */
async function startLock() {
  const clock = new VirtualClock();
  const state = resources.use(await openState("sqlite::memory:", { log: silentLog }));
  let fault: "none" | "fails" | "hangs" = "none";
  let hints = true;
  const t0 = clock.now();
  const lock: LeaderLock = {
    async acquire(...request) {
      if (fault === "fails") throw new DrawbridgeError("STATE_UNAVAILABLE", "The store is away.");
      if (fault === "hangs") await clock.sleep(1_000_000);
      return await state.leader.acquire(...request);
    },
    release: (owner) => state.leader.release(owner),
    current: (now) => state.leader.current(now),
    onChange: (listener) => state.leader.onChange(() => hints && listener()),
  };
  const contend = (owner: string, isGone: (owner: string) => boolean = () => false) => {
    const times = { leaseMs: 60_000, renewMs: 20_000, retryMs: 5_000 };
    const random = seededRandom(1);
    const leadership = createLeadership({ lock, owner, isGone, ...times, clock, random, log: silentLog });
    const history: (number | undefined)[] = [];
    leadership.onChange((lead: Lead | undefined) => history.push(lead?.epoch));
    return { leadership, history };
  };
  return {
    t0,
    clock,
    lock,
    contend,
    setFault: (next: typeof fault) => void (fault = next),
    loseHints: () => void (hints = false),
  };
}

describe("leadership", () => {
  it("is one controller's, for as long as it renews", async () => {
    const { t0, clock, contend } = await startLock();
    const first = contend("one");
    const second = contend("two");
    await first.leadership.start();
    await second.leadership.start();
    await clock.advance(600_000);
    expect([first.history, second.history]).toEqual([[t0], []]);
    await first.leadership[Symbol.asyncDispose]();
    await second.leadership[Symbol.asyncDispose]();
  });

  it("is given up at the end, and another one has it at once", async () => {
    const { t0, clock, contend } = await startLock();
    const first = contend("one");
    const others = [contend("two"), contend("three")];
    await first.leadership.start();
    for (const { leadership } of others) await leadership.start();
    const lead = first.leadership.lead;
    await first.leadership[Symbol.asyncDispose]();
    expect(lead?.signal.aborted).toBe(true);
    await clock.advance(0);
    expect(others.flatMap(({ history }) => history)).toEqual([t0 + 1]);
    for (const { leadership } of others) await leadership[Symbol.asyncDispose]();
  });

  it("is given up at the end, and another one has it with its next try where the hint is lost", async () => {
    const { t0, clock, contend, loseHints } = await startLock();
    loseHints();
    const first = contend("one");
    const second = contend("two");
    await first.leadership.start();
    await second.leadership.start();
    await first.leadership[Symbol.asyncDispose]();
    await clock.advance(4_999);
    expect(second.history).toEqual([]);
    await clock.advance(1);
    expect(second.history).toEqual([t0 + 5_000]);
    await second.leadership[Symbol.asyncDispose]();
  });

  it.each([2, 3, 5])("passes within a second of the lease's end, with %i controllers, one at a time", async (count) => {
    const { t0, clock, lock, contend } = await startLock();
    // It renews at odd times, and is killed without a word.
    await lock.acquire("killed", 60_000, clock.now());
    const others = Array.from({ length: count - 1 }, (_, index) => contend(`${index}`));
    for (const { leadership } of others) await leadership.start();
    await clock.advance(17_321);
    await lock.acquire("killed", 60_000, clock.now());
    await clock.advance(60_000);
    expect(others.flatMap(({ history }) => history)).toEqual([]);
    await clock.advance(1_000);
    const [epoch = 0, ...more] = others.flatMap(({ history }) => history);
    expect(more).toEqual([]);
    expect(epoch).toBeGreaterThan(t0 + 77_321);
    expect(epoch).toBeLessThanOrEqual(t0 + 78_321);
    for (const { leadership } of others) await leadership[Symbol.asyncDispose]();
  });

  it("is not kept by one that stops while it asks", async () => {
    const { t0, clock, lock, contend, setFault } = await startLock();
    const { leadership } = contend("one");
    setFault("hangs");
    const starting = leadership.start();
    await clock.advance(1);
    const ended = leadership[Symbol.asyncDispose]();
    await clock.advance(1_000_000);
    await Promise.all([starting, ended]);
    expect(await lock.current(t0)).toBeUndefined();
  });

  it.each(["fails", "hangs"] as const)(
    "ends at two thirds of the lease when renewing %s, before anybody else can begin",
    async (fault) => {
      const { clock, contend, setFault } = await startLock();
      const { leadership } = contend("one");
      await leadership.start();
      const { lead } = leadership;
      setFault(fault);
      await clock.advance(39_999);
      expect(lead?.signal.aborted).toBe(false);
      await clock.advance(1);
      expect([lead?.signal.aborted, leadership.lead]).toEqual([true, undefined]);
      setFault("none");
      await clock.advance(1_000_000);
      expect(leadership.lead).toBeDefined();
      await leadership[Symbol.asyncDispose]();
    },
  );

  it("passes at once from an owner that is known to have ended", async () => {
    const { t0, clock, lock, contend } = await startLock();
    await lock.acquire("dead", 60_000, clock.now());
    const heir = contend("heir", (owner) => owner === "dead");
    await heir.leadership.start();
    expect(heir.history).toEqual([t0 + 1]);
    await heir.leadership[Symbol.asyncDispose]();
  });
});

describe("leader identity", () => {
  it("knows who has ended on this machine, and says nothing of others", () => {
    const identity = createLeaderIdentity();
    const place = identity.owner.split("/").slice(0, -2).join("/");
    expect(identity.isGone(identity.owner)).toBe(false);
    expect(identity.isGone(`${place}/${process.ppid}/ctl_x`)).toBe(false);
    expect(identity.isGone(`${place}/${process.pid}/ctl_x`)).toBe(true);
    expect(identity.isGone(`${place}/4194305/ctl_x`)).toBe(true);
    expect(identity.isGone("elsewhere/1/4194305/ctl_x")).toBe(false);
  });
});
