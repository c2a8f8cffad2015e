import { type ChildProcess, spawn } from "node:child_process";
import { afterEach, describe, expect, it } from "vitest";
import { systemClock } from "../../../services/kit/clock.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { newId } from "../../../services/kit/random.ts";
import { createReaper } from "../../../services/worker/process/reaper.ts";
import { until } from "../../support/until.ts";

const path = process.env["PATH"] ?? "";
const children: ChildProcess[] = [];

/** A process group whose environment tells nothing. */
function startGroup(): ChildProcess & { pid: number } {
  const child = spawn("sleep", ["60"], { detached: true, stdio: "ignore", env: { PATH: path } });
  children.push(child);
  if (child.pid === undefined) throw new Error("sleep could not be started");
  return child as ChildProcess & { pid: number };
}

const hasEnded = (child: ChildProcess) => child.exitCode !== null || child.signalCode !== null;

afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

describe("the reaper", () => {
  it("ends the groups that it watches, and not those that it forgot, when its pipe ends", async () => {
    const reaper = createReaper({ workerTag: newId("agents"), path, clock: systemClock, log: silentLog });
    const [first, forgotten, last] = [startGroup(), startGroup(), startGroup()];
    for (const { pid } of [first, forgotten, last]) reaper.watch(pid);
    reaper.forget(forgotten.pid);
    await reaper[Symbol.asyncDispose]();
    await until("the watched groups ended", () => hasEnded(first) && hasEnded(last));
    expect(hasEnded(forgotten)).toBe(false);
  });

  it("returns at once when there is nothing to end", async () => {
    const reaper = createReaper({ workerTag: newId("agents"), path, clock: systemClock, log: silentLog });
    await reaper[Symbol.asyncDispose]();
  });
});
