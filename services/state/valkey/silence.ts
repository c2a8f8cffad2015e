// A store that keeps a connection open and does not answer, such as one that is stopped or swaps, would make every call wait for its time-out,
// and calls would pile up. After one call that waited in vain, the others fail at once, until the store answers a ping.
import { DrawbridgeError } from "../../kit/errors.ts";

export interface Silence {
  /** Throws while the store says nothing. */
  check(): void;
  /** Told of every failed call. */
  heard(error: unknown): void;
}

/** Asked so often whether it answers again, in ms. */
const askAgainMs = 100;

export function createSilence(ping: () => Promise<unknown>): Silence {
  let silent = false;
  const ask = () => {
    const timer = setTimeout(() => {
      ping().then(
        () => (silent = false),
        // A refusal is an answer, too; a closed connection is no silence, and calls fail at once by themselves.
        (error: unknown) => {
          silent = isTimeout(error);
          if (silent) ask();
        },
      );
    }, askAgainMs);
    timer.unref();
  };
  return {
    check() {
      if (!silent) return;
      throw new DrawbridgeError("STATE_UNAVAILABLE", "The store does not answer. Try again.", { retryAfterMs: 1_000 });
    },
    heard(error) {
      if (silent || !isTimeout(error)) return;
      silent = true;
      ask();
    },
  };
}

/** ioredis's own words for a command that had no answer in its time. */
function isTimeout(error: unknown): boolean {
  return error instanceof Error && error.message === "Command timed out";
}
