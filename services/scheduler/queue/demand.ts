// What waits, told to the other processes: the controller starts workers for it, other schedulers leave it its share of the slots.
import type { Clock } from "../../kit/clock.ts";
import type { Log } from "../../kit/log.ts";
import type { DemandStore } from "../../state/state.ts";

export interface DemandOptions {
  readonly store: DemandStore;
  readonly schedulerId: string;
  /** Models with a queue here, and how many wait in it. */
  readonly models: () => Iterable<string>;
  readonly waiting: (model: string) => number;
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
}

export interface Demand {
  /** Requests that wait for the model at other schedulers, as of the last look. */
  elsewhere(model: string): number;
  /** The number of those that wait for the model changed. */
  changed(model: string): void;
  /** Tells and looks until the signal is aborted. */
  run(): Promise<void>;
}

/** What was told counts for so many intervals. */
const intervalsKept = 4;

export function createDemand({
  store,
  schedulerId,
  models,
  waiting,
  intervalMs,
  clock,
  log,
  signal,
}: DemandOptions): Demand {
  let elsewhere: ReadonlyMap<string, number> = new Map();
  /** What was told of each model, if it was more than nothing. */
  const told = new Map<string, number>();
  let hinted = Promise.withResolvers<void>();

  const tell = async () => {
    for (const model of new Set([...models(), ...told.keys()])) {
      const count = waiting(model);
      if (count === 0 && !told.has(model)) continue;
      await store.report(schedulerId, model, count, intervalsKept * intervalMs, clock.now());
      if (count === 0) told.delete(model);
      else told.set(model, count);
    }
  };
  const look = async () => {
    const all = await store.list(clock.now());
    elsewhere = new Map(all.map((each) => [each.model, Math.max(0, each.waiting - (told.get(each.model) ?? 0))]));
  };

  return {
    elsewhere: (model) => elsewhere.get(model) ?? 0,
    changed(model) {
      // The first that waits is told at once, and the end of the wait; what is between can wait for the next time.
      if (waiting(model) > 0 !== told.has(model)) hinted.resolve();
    },
    async run() {
      while (!signal.aborted) {
        hinted = Promise.withResolvers();
        try {
          await tell();
          await look();
        } catch (error) {
          if (!signal.aborted) log.warn({ err: error }, "what waits could not be told");
        }
        await Promise.race([hinted.promise, pause(clock, intervalMs, signal)]);
        // Many of the same moment are one.
        await pause(clock, intervalMs / 10, signal);
      }
      for (const model of told.keys())
        await store.report(schedulerId, model, 0, intervalMs, clock.now()).catch(() => {});
    },
  };
}

async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  await clock.sleep(ms, signal).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
}
