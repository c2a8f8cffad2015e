// Tells of workers that ended, for drivers whose workers live elsewhere: who ran at the last look and does not run now has ended. Level-triggered,
// so a lost or doubled event of the engine changes nothing.
import type { WorkerExit, WorkerProcess } from "./driver.ts";

/** One run of a worker: of two runs under the same name, the engine knows each by an id of its own. */
export interface Run extends WorkerProcess {
  readonly runId: string;
}

export interface Ending {
  readonly code: number | undefined;
  readonly signal: string | undefined;
}

export interface Exits {
  /** What runs now, all of it. `endingOf` says how a run ended that is not there any more. */
  look(running: readonly Run[], endingOf: (run: Run) => Ending): void;
  /** A run that has just been started. */
  started(run: Run): void;
  /** The run's end is asked for. */
  request(runId: string): void;
  onExit(listener: (exit: WorkerExit) => void): Disposable;
}

export function createExits(): Exits {
  const known = new Map<string, Run>();
  const requested = new Set<string>();
  const listeners = new Set<(exit: WorkerExit) => void>();
  return {
    look(running, endingOf) {
      const present = new Set(running.map(({ runId }) => runId));
      const ended = [...known.values()].filter(({ runId }) => !present.has(runId));
      for (const run of running) known.set(run.runId, run);
      for (const run of ended) {
        known.delete(run.runId);
        const { runId: _runId, ...process } = run;
        const exit = { ...process, ...endingOf(run), requested: requested.delete(run.runId) };
        for (const listener of listeners) listener(exit);
      }
    },
    started: (run) => void known.set(run.runId, run),
    request: (runId) => void requested.add(runId),
    onExit(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
  };
}
