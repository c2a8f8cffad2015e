// Controllers as processes that contend for the lead on one store, and what their drivers wrote down.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RecordedAction } from "./contending-controller.ts";
import { until } from "./until.ts";

const program = join(import.meta.dirname, "contending-controller.ts");

export interface LeaderContestOptions {
  readonly stateUrl: string;
  readonly controllers: number;
  readonly leaseMs: number;
  /** How often those who do not lead ask without a reason. */
  readonly retryMs: number;
}

export interface LeaderContest extends AsyncDisposable {
  /** In the order in which the driver heard them. */
  readonly actions: () => Promise<RecordedAction[]>;
  /** The process that acts, once one has acted in an epoch beyond this one, and its first action. */
  readonly leaderAfter: (
    epoch: number,
    timeoutMs?: number,
  ) => Promise<{ readonly child: ChildProcess; readonly epoch: number; readonly first: RecordedAction }>;
  /** Resolves when it has started. */
  readonly add: () => Promise<void>;
}

export async function startLeaderContest(options: LeaderContestOptions): Promise<LeaderContest> {
  await using starting = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "drawbridge-leaders-"));
  starting.defer(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, "actions.jsonl");
  const children = new Set<ChildProcess>();
  starting.defer(() => Promise.all([...children].map(kill)).then(() => {}));

  const add = async () => {
    const { stateUrl, leaseMs, retryMs } = options;
    const child = spawn(process.execPath, [program, stateUrl, file, String(leaseMs), String(retryMs)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    children.add(child);
    await once(child.stdout, "data");
  };
  await Promise.all(Array.from({ length: options.controllers }, add));

  const actions = async () => {
    const text = await readFile(file, "utf8").catch(() => "");
    return text.split("\n").flatMap((line) => (line === "" ? [] : (JSON.parse(line) as RecordedAction)));
  };
  const resources = starting.move();
  return {
    actions,
    add,
    leaderAfter: (epoch, timeoutMs = 20_000) =>
      until(
        `a controller acts after epoch ${epoch}`,
        async () => {
          const all = await actions();
          const newest = all.at(-1)?.epoch ?? 0;
          const first = all.find((action) => action.epoch === newest);
          const child = [...children].find(({ pid }) => pid === first?.pid);
          return first && child && newest > epoch && { child, epoch: newest, first };
        },
        { timeoutMs },
      ),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}
