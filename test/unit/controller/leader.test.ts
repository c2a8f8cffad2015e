import { afterEach, describe, expect, it } from "vitest";
import { createLeaderIdentity } from "../../../services/controller/leader-identity.ts";
import { createLeadership, type Lead } from "../../../services/controller/leader.ts";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { openState } from "../../../services/state/open.ts";
import type { LeaderLock } from "../../../services/state/state.ts";
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
  const lock: LeaderLock = {
    async acquire(...request) {
      if (fault === "fails") throw new DrawbridgeError("STATE_UNAVAILABLE", "The store is away.");
      if (fault === "hangs") await clock.sleep(1_000_000);
      return await state.leader.acquire(...request);
    },
    release: (owner) => state.leader.release(owner),
    current: (now) => state.leader.current(now),
  };
  const contend = (owner: string, isGone: (owner: string) => boolean = () => false) => {
    const times = { leaseMs: 60_000, renewMs: 20_000, retryMs: 5_000 };
    const leadership = createLeadership({ lock, owner, isGone, ...times, clock, log: silentLog });
    const history: (number | undefined)[] = [];
    leadership.onChange((lead: Lead | undefined) => history.push(lead?.epoch));
    return { leadership, history };
  };
  return { clock, lock, contend, setFault: (next: typeof fault) => void (fault = next) };
}

describe("leadership", () => {
  it("is one controller's, for as long as it renews", async () => {
    const { clock, contend } = await startLock();
    const first = contend("one");
    const second = contend("two");
    await first.leadership.start();
    await second.leadership.start();
    await clock.advance(600_000);
    expect([first.history, second.history]).toEqual([[1], []]);
    await first.leadership[Symbol.asyncDispose]();
    await second.leadership[Symbol.asyncDispose]();
  });

  it("is given up at the end, so that the next one does not wait for the lease", async () => {
    const { clock, contend } = await startLock();
    const first = contend("one");
    const second = contend("two");
    await first.leadership.start();
    await second.leadership.start();
    const lead = first.leadership.lead;
    await first.leadership[Symbol.asyncDispose]();
    expect(lead?.signal.aborted).toBe(true);
    await clock.advance(5_000);
    expect(second.history).toEqual([2]);
    await second.leadership[Symbol.asyncDispose]();
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
    const { clock, lock, contend } = await startLock();
    await lock.acquire("dead", 60_000, clock.now());
    const heir = contend("heir", (owner) => owner === "dead");
    await heir.leadership.start();
    expect(heir.history).toEqual([2]);
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
