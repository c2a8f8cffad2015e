import { describe, expect, it } from "vitest";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { createFailureRecord } from "../../../services/worker/pool/pool-failures.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

const crash = new DrawbridgeError("AGENT_CRASHED", "It ended.");

function record() {
  const clock = new VirtualClock();
  const config = { restart_backoff: 100, restart_backoff_max: 1_000 };
  return { clock, failures: createFailureRecord({ config, clock, random: () => 1 }) };
}

describe("failures of a pool's processes", () => {
  it("in a row keep it from starting others for longer and longer, to a limit", () => {
    const { failures } = record();
    const waits = Array.from({ length: 6 }, () => {
      failures.add(crash);
      return failures.backoffMs();
    });
    expect(waits).toEqual([100, 200, 400, 800, 1_000, 1_000]);
    expect(failures.count).toBe(6);
  });

  it("are forgotten after a finished turn, or when a process has lived for long", async () => {
    const { failures, clock } = record();
    failures.add(crash);
    failures.clear();
    expect([failures.count, failures.last, failures.backoffMs()]).toEqual([0, undefined, 0]);
    failures.add(crash);
    const startedAtMs = clock.monotonic();
    failures.forgive([{ startedAtMs }]);
    expect(failures.count).toBe(1);
    await clock.advance(10_000);
    failures.forgive([{ startedAtMs }]);
    expect(failures.last).toBeUndefined();
  });

  it("under prompts may be the prompts' fault, until there are many in a row", () => {
    const { failures } = record();
    for (let crashes = 0; crashes < 3; crashes++) failures.crashed(crash);
    expect([failures.last, failures.backoffMs()]).toEqual([undefined, 0]);
    failures.crashed(crash);
    expect([failures.last, failures.backoffMs(), failures.count]).toEqual([crash, 100, 0]);
    failures.crashed(crash);
    expect(failures.backoffMs()).toBe(200);
  });
});
