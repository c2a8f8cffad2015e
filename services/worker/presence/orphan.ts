// A worker that nobody knows of any more: the registry does not answer and no controller asks how it is. After a while it ends by itself, so that
// no machine keeps workers of a system that is gone.
import type { Clock } from "../../kit/clock.ts";

export interface OrphanWatchOptions {
  /** Without a word from registry or controller for so long, in ms. */
  readonly timeoutMs: number;
  readonly onOrphaned: () => void;
  readonly clock: Clock;
}

export interface OrphanWatch extends Disposable {
  start(): void;
  /** Registry or controller gave a sign of life. */
  heard(): void;
}

/** A process that was stopped and goes on finds its time over: it listens for a moment before it believes that. */
const confirmMs = 15_000;

export function createOrphanWatch({ timeoutMs, onOrphaned, clock }: OrphanWatchOptions): OrphanWatch {
  let heardAt = clock.monotonic();
  let confirming = false;
  let timer: Disposable | undefined;

  function look(): void {
    const leftMs = timeoutMs - (clock.monotonic() - heardAt);
    if (leftMs > 0) {
      confirming = false;
      return arm(leftMs);
    }
    if (confirming) return onOrphaned();
    confirming = true;
    arm(Math.min(confirmMs, timeoutMs));
  }

  function arm(ms: number): void {
    timer = clock.after(ms, look);
  }

  return {
    start() {
      heardAt = clock.monotonic();
      arm(timeoutMs);
    },
    heard() {
      heardAt = clock.monotonic();
    },
    [Symbol.dispose]: () => timer?.[Symbol.dispose](),
  };
}
