// Waiting for an event or a time, whichever is first. Events between two waits are not lost, and many of them count as one.
import type { Clock } from "../kit/clock.ts";

export interface Trigger {
  fire(): void;
  /** Resolves at once if it has fired since the last wait; else when it fires, after `ms`, or when the signal is aborted. */
  wait(ms: number, signal: AbortSignal): Promise<void>;
}

export function createTrigger(clock: Clock): Trigger {
  let fired = false;
  let wake: (() => void) | undefined;
  return {
    fire() {
      fired = true;
      wake?.();
    },
    async wait(ms, signal) {
      if (!fired && !signal.aborted) {
        const { promise, resolve } = Promise.withResolvers<void>();
        const end = () => resolve();
        wake = end;
        signal.addEventListener("abort", end, { once: true });
        using _ = clock.after(ms, end);
        await promise;
        signal.removeEventListener("abort", end);
        wake = undefined;
      }
      fired = false;
    },
  };
}
