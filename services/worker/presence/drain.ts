// The worker's end: nothing new, what runs finishes within the grace, the rest is cancelled, the agents end, the registry hears of it.
import type { Clock } from "../../kit/clock.ts";
import type { Log } from "../../kit/log.ts";
import type { Attempts } from "../turn/attempts.ts";
import type { Pool } from "../pool/pool.ts";
import type { Registration } from "./registration.ts";

export interface DrainOptions {
  readonly pools: readonly Pool[];
  readonly attempts: Attempts;
  readonly registration: Registration;
  /** Where a call names none. */
  readonly graceMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Drain {
  /** Begins it, or shortens the grace of one that runs. Resolves when it is over. */
  begin(graceMs?: number): Promise<void>;
  readonly begun: boolean;
  readonly over: Promise<void>;
}

/** A registry or a store that starts again is back by then; outcomes may wait for it. */
const deregisterMs = 5_000;

export function createDrain(options: DrainOptions): Drain {
  const { pools, attempts, registration, clock, log } = options;
  const { promise: over, resolve: finish, reject: fail } = Promise.withResolvers<void>();
  // Not everybody who drains looks at `over`.
  over.catch(() => {});
  let begun = false;

  async function run(): Promise<void> {
    log.info({ in_flight: attempts.running.length }, "draining");
    attempts.drain();
    for (const pool of pools) pool.drain();
    registration.changed();
    await attempts.settled();
    await Promise.all(pools.map((pool) => pool.stop()));
    await registration.leave(deregisterMs);
    log.info("drained");
  }

  return {
    async begin(graceMs = options.graceMs) {
      if (!begun) {
        begun = true;
        run().then(finish, fail);
      }
      using _ = clock.after(graceMs, () => attempts.stopAll("draining"));
      await over;
    },
    get begun() {
      return begun;
    },
    over,
  };
}
