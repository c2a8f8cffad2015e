// Failures of a pool's processes in a row, and how long they keep it from starting another.
import type { Clock } from "../../kit/clock.ts";
import type { DrawbridgeError } from "../../kit/errors.ts";
import { backoffMs, type Random } from "../../kit/random.ts";

export interface FailureRecordOptions {
  readonly config: { readonly restart_backoff: number; readonly restart_backoff_max: number };
  readonly clock: Clock;
  readonly random: Random;
}

export interface FailureRecord {
  add(error: DrawbridgeError): void;
  /** A process ended by itself under a prompt. A few times in a row keep the pool from starting others at full speed. */
  crashed(error: DrawbridgeError): void;
  /** An agent finished a turn: all is well. */
  clear(): void;
  /** So it is, too, when one of these has lived for long. */
  forgive(living: readonly { readonly startedAtMs: number }[]): void;
  readonly count: number;
  readonly last: DrawbridgeError | undefined;
  /** Time until the next start. 0: now. */
  backoffMs(): number;
}

/** So many crashes under prompts may be the prompts' fault. */
const crashesMax = 3;

/** A process that lives so long ends a series of failures. */
const stableMs = 10_000;

export function createFailureRecord({ config, clock, random }: FailureRecordOptions): FailureRecord {
  let count = 0;
  let crashes = 0;
  let last: DrawbridgeError | undefined;
  let untilMs = 0;
  const clear = () => {
    count = 0;
    crashes = 0;
    last = undefined;
    untilMs = 0;
  };
  const delay = (failures: number) => {
    untilMs = clock.monotonic() + backoffMs(failures, config.restart_backoff, config.restart_backoff_max, random);
  };
  return {
    add(error) {
      count += 1;
      last = error;
      delay(count);
    },
    crashed(error) {
      crashes += 1;
      if (crashes <= crashesMax) return;
      last = error;
      delay(crashes - crashesMax);
    },
    clear,
    forgive(living) {
      const nowMs = clock.monotonic();
      if (last && living.some(({ startedAtMs }) => nowMs - startedAtMs >= stableMs)) clear();
    },
    get count() {
      return count;
    },
    get last() {
      return last;
    },
    backoffMs: () => Math.max(0, untilMs - clock.monotonic()),
  };
}
