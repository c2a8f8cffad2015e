// Controllers as processes on one Valkey: the leader is killed, stopped in its tracks beyond its lease, ended, or its Valkey fails over. By what their
// driver wrote down, two never act at once.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import type { RecordedAction } from "../../support/contending-controller.ts";
import { until } from "../../support/until.ts";
import { startValkeyProcess, startValkeySentinels } from "../../support/valkey.ts";

const program = join(import.meta.dirname, "../../support/contending-controller.ts");
const leaseMs = 3_000;

let resources = new AsyncDisposableStack();
afterEach(async () => {
  await resources.disposeAsync();
  resources = new AsyncDisposableStack();
});

interface Contest {
  readonly actions: () => Promise<RecordedAction[]>;
  /** The process that acts, once one has acted in an epoch beyond this one. */
  readonly leaderAfter: (
    epoch: number,
    timeoutMs?: number,
  ) => Promise<{ readonly child: ChildProcess; readonly epoch: number }>;
  readonly add: () => void;
}

async function contest(stateUrl: string, count: number): Promise<Contest> {
  const folder = await mkdtemp(join(tmpdir(), "drawbridge-leaders-"));
  resources.defer(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, "actions.jsonl");
  const children: ChildProcess[] = [];
  const add = () => {
    const child = spawn(process.execPath, [program, stateUrl, file, String(leaseMs)], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    children.push(child);
    resources.defer(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    });
  };
  for (let index = 0; index < count; index++) add();
  const actions = async () => {
    const text = await readFile(file, "utf8").catch(() => "");
    return text.split("\n").flatMap((line) => (line === "" ? [] : (JSON.parse(line) as RecordedAction)));
  };
  return {
    actions,
    add,
    leaderAfter: (epoch, timeoutMs = 20_000) =>
      until(
        `a controller acts after epoch ${epoch}`,
        async () => {
          const last = (await actions()).at(-1);
          const child = children.find(({ pid }) => pid === last?.pid);
          return last && child && last.epoch > epoch && { child, epoch: last.epoch };
        },
        { timeoutMs },
      ),
  };
}

/** Lines are in the order in which the driver heard them. */
function expectOneAtATime(actions: readonly RecordedAction[]): void {
  const epochs = actions.map(({ epoch }) => epoch);
  expect(epochs).toEqual(epochs.toSorted((a, b) => a - b));
  for (const [epoch, same] of Map.groupBy(actions, (action) => action.epoch)) {
    expect(new Set(same.map(({ pid }) => pid)).size, `processes that acted in epoch ${epoch}`).toBe(1);
  }
}

test.each([2, 3, 5])("%i controllers: killed, stopped beyond its lease and resumed, ended", async (count) => {
  const valkey = resources.use(await startValkeyProcess());
  const { leaderAfter, actions, add } = await contest(`valkey://127.0.0.1:${valkey.port}`, count);
  const first = await leaderAfter(0);

  first.child.kill("SIGKILL");
  const second = await leaderAfter(first.epoch, leaseMs + 10_000);
  expect(second.child.pid).not.toBe(first.child.pid);
  add();

  second.child.kill("SIGSTOP");
  const third = await leaderAfter(second.epoch, leaseMs + 10_000);
  second.child.kill("SIGCONT");
  const resumedAt = (await actions()).length;
  await until("the third goes on", async () => (await actions()).length > resumedAt + 2);

  third.child.kill("SIGTERM");
  await leaderAfter(third.epoch);
  expectOneAtATime(await actions());
});

test("three controllers while Valkey fails over", async () => {
  const valkey = resources.use(await startValkeySentinels());
  const { leaderAfter, actions } = await contest(valkey.url, 3);
  const first = await leaderAfter(0);
  await valkey.master.kill();
  const failedOverAt = Date.now();
  await until(
    "somebody acts on the new master",
    async () => ((await actions()).at(-1)?.time ?? 0) > failedOverAt + leaseMs,
    {
      timeoutMs: 60_000,
    },
  );
  const now = (await actions()).at(-1)?.epoch ?? 0;
  expect(now).toBeGreaterThanOrEqual(first.epoch);
  expectOneAtATime(await actions());
});
