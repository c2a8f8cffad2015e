// Agents behind the programs of the machine that limit them.
import { execFileSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { Health } from "#gen/drawbridge/v1/worker";
import { until } from "../../support/until.ts";
import { startWorker } from "./harness.ts";

/** Whether this machine has the program and lets us use it. */
function works(...command: readonly [string, ...string[]]): boolean {
  try {
    execFileSync(command[0], command.slice(1), { stdio: "ignore", timeout: 5_000 });
    return true;
  } catch {
    return false;
  }
}

const bubblewrap = works("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-pid", "true");
const systemd = works("systemd-run", ...(process.getuid?.() === 0 ? [] : ["--user"]), "--scope", "--quiet", "true");

interface Look {
  readonly written: Record<string, boolean>;
  readonly listed: readonly string[];
  readonly processes: number;
}

describe.skipIf(!bubblewrap)("an agent behind bwrap", () => {
  it("writes only where it may, sees no other account and no other process, and ends with all it started", async () => {
    const outside = await mkdtemp(join(tmpdir(), "drawbridge-outside-"));
    const worker = await startWorker({ settings: { isolation: "bwrap" } });
    await writeFile(join(worker.directory, "secret"), "of the worker");
    const look = async (): Promise<Look> =>
      JSON.parse((await worker.prompt({ do: "look", folder: worker.directory, outside })).text) as Look;
    const { written, listed, processes } = await look();
    expect(written).toEqual({ home: true, cwd: true, tmp: true, outside: false, worker: false });
    expect(listed).toEqual(["accounts", "work"]);
    expect(processes).toBeLessThan(5);
    expect((await worker.prompt({ do: "spawn" })).error?.message).toBeUndefined();
    await worker[Symbol.asyncDispose]();
    expect(await worker.processes()).toEqual([]);
    await rm(outside, { recursive: true });
  });
});

describe.skipIf(!systemd)("an agent in a scope of systemd", () => {
  it("answers, and is ended", async () => {
    const settings = { isolation: "systemd-run", process_memory_limit: "1GiB", process_tasks_limit: 200 };
    const worker = await startWorker({ settings });
    expect((await worker.prompt({ do: "answer" })).error?.message).toBeUndefined();
    await worker[Symbol.asyncDispose]();
    expect(await worker.processes()).toEqual([]);
  });
});

describe("isolation by a program that is not there", () => {
  it("makes the pool unhealthy, and says which", async () => {
    const settings = { isolation: "systemd-run" };
    await using worker = await startWorker({ settings, environment: { PATH: dirname(process.execPath) } });
    await until("the pool is unhealthy", async () => (await worker.pool()).health === Health.UNHEALTHY);
    expect((await worker.pool()).healthReason).toContain("systemd-run was not found");
  });
});
