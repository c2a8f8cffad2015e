// Waiting for a condition, with a bound and a failure that says what was waited for.
import { setTimeout as sleep } from "node:timers/promises";

export interface UntilOptions {
  /** Default 20,000. */
  readonly timeoutMs?: number;
  /** Between two looks. Default 25. */
  readonly everyMs?: number;
}

/** The first value that is neither undefined nor false. An error of the look itself is tolerated until the time is up. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false> | T | undefined | false,
  { timeoutMs = 20_000, everyMs = 25 }: UntilOptions = {},
): Promise<T> {
  const giveUpAt = performance.now() + timeoutMs;
  let cause: unknown;
  for (;;) {
    try {
      const found = await look();
      if (found !== undefined && found !== false) return found;
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    if (performance.now() >= giveUpAt) throw new Error(`Waited ${timeoutMs} ms in vain until ${what}.`, { cause });
    await sleep(everyMs);
  }
}
