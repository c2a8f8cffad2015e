// Nothing survives the worker: a tiny shell process in a session of its own hears of every agent's process group through a pipe. When the
// pipe ends, because the worker ended or was killed, it ends the agents.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Clock } from "../../kit/clock.ts";
import type { Log } from "../../kit/log.ts";
import { tagVariable } from "./process-table.ts";

export interface Reaper extends AsyncDisposable {
  /** From now on the group ends when the worker ends. */
  watch(group: number): void;
  /** The group is gone; its number may come to belong to somebody else. */
  forget(group: number): void;
}

export interface ReaperOptions {
  /** What the tags of all agents of this worker begin with. */
  readonly workerTag: string;
  /** PATH, to find grep and sleep. */
  readonly path: string;
  readonly clock: Clock;
  readonly log: Log;
}

const script = fileURLToPath(new URL("./reaper.sh", import.meta.url));
const restartDelayMs = 500;

export function createReaper({ workerTag, path, clock, log }: ReaperOptions): Reaper {
  const groups = new Set<number>();
  let closing = false;
  let restart: Disposable | undefined;
  let shell: ChildProcess = start();

  function start(): ChildProcess {
    const child = spawn("/bin/sh", [script, `${tagVariable}=${workerTag}.`], {
      detached: true,
      stdio: ["pipe", "ignore", "ignore"],
      env: { PATH: path },
    });
    // A broken pipe means that the shell ended, which "exit" tells too.
    child.stdin?.on("error", () => {});
    child.once("error", (error) => log.error({ err: error }, "the reaper could not be started; install /bin/sh"));
    child.once("exit", () => {
      if (closing) return;
      log.warn("the reaper ended; starting another");
      restart = clock.after(restartDelayMs, () => void (shell = start()));
    });
    child.unref();
    for (const group of groups) child.stdin?.write(`+ ${group}\n`);
    return child;
  }

  return {
    watch(group) {
      groups.add(group);
      shell.stdin?.write(`+ ${group}\n`);
    },
    forget(group) {
      if (groups.delete(group)) shell.stdin?.write(`- ${group}\n`);
    },
    async [Symbol.asyncDispose]() {
      closing = true;
      restart?.[Symbol.dispose]();
      if (shell.exitCode !== null || shell.signalCode !== null || shell.pid === undefined) return;
      shell.ref();
      const exit = once(shell, "exit");
      shell.stdin?.end();
      await exit;
    },
  };
}
