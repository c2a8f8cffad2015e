import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { deafWrapper } from "../../support/fleet.ts";
import { processesOf } from "../../support/system-processes.ts";
import { until } from "../../support/until.ts";
import { startWorker } from "./harness.ts";

const nobody = async (look: () => Promise<readonly unknown[]>) => {
  await until("no process is left", async () => (await look()).length === 0);
};

describe.skipIf(process.platform !== "linux")("no process survives", () => {
  it("a worker that ends", async () => {
    const worker = await startWorker({ slots: 3 });
    await Promise.all([1, 2, 3].map(() => worker.prompt({ do: "answer", delay_ms: 300 })));
    expect((await worker.processes()).length).toBeGreaterThan(0);
    await worker[Symbol.asyncDispose]();
    expect(await worker.processes()).toEqual([]);
  });

  it("an agent that started one in a session of its own", async () => {
    const worker = await startWorker();
    await worker.prompt({ do: "spawn" });
    expect(await worker.processes()).toHaveLength(2);
    await worker[Symbol.asyncDispose]();
    expect(await worker.processes()).toEqual([]);
  });

  it("an agent that crashes and leaves one behind", async () => {
    await using worker = await startWorker();
    await worker.prompt({ do: "hold_stdout" });
    await until("only the next agent is left", async () => {
      const left = await worker.processes();
      return left.length === 1 && left[0]?.includes("faulty-agent");
    });
  });

  it("a launcher that forwards no signals", async () => {
    const worker = await startWorker({ wrapper: [deafWrapper] });
    expect((await worker.prompt({ do: "answer" })).error?.reason).toBeUndefined();
    expect(await worker.processes()).toHaveLength(2);
    await worker.prompt({ do: "ignore_cancel" }, { timeoutMs: 300 });
    await worker[Symbol.asyncDispose]();
    expect(await worker.processes()).toEqual([]);
  });

  it("an agent that is stopped while it starts", async () => {
    const worker = await startWorker({ agentArguments: ["--start-delay-ms", "60000"] });
    await until("it starts", async () => (await worker.processes()).length === 1);
    await worker[Symbol.asyncDispose]();
    expect(await worker.processes()).toEqual([]);
  });

  describe("a worker that is killed", () => {
    const folders: string[] = [];
    afterEach(async () => {
      for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
    });

    it("without a chance to clean up", async () => {
      const folder = await mkdtemp(join(tmpdir(), "drawbridge-killed-"));
      folders.push(folder);
      const program = fileURLToPath(new URL("./killed-worker.ts", import.meta.url));
      const child = spawn(process.execPath, [program, folder], { stdio: ["ignore", "pipe", "inherit"] });
      await once(child.stdout, "data");
      const agents = () => processesOf(join(folder, "accounts"));
      // Two agents, one of them behind a launcher that forwards no signals, and what each of them started in a session of its own.
      expect((await agents()).length).toBeGreaterThanOrEqual(5);
      child.kill("SIGKILL");
      await once(child, "exit");
      await nobody(agents);
    });
  });
});
