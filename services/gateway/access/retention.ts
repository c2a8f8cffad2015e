// The ledger's end: entries older than the retention are deleted, so that the store stays bounded. What was spent stays in the balances.
import type { Clock } from "../../kit/clock.ts";
import type { Log } from "../../kit/log.ts";
import type { Ledger } from "../../state/state.ts";

export interface RetentionOptions {
  readonly ledger: Pick<Ledger, "trim">;
  readonly clock: Clock;
  readonly log: Log;
  /** Entries are kept for so long, in ms. */
  readonly retentionMs: number;
}

/** Between two rounds. Several gateways may trim; an entry goes once. */
const intervalMs = 10 * 60_000;
/** Entries that one call to the store deletes, and the pause before the next one, so that requests get their turn. */
const batchSize = 500;
const pauseMs = 100;

/** Deletes what is too old; how many. */
export async function trimLedger(
  { ledger, clock, retentionMs }: RetentionOptions,
  signal: AbortSignal,
): Promise<number> {
  let deleted = 0;
  while (!signal.aborted) {
    const gone = await ledger.trim(clock.now() - retentionMs, batchSize);
    deleted += gone;
    if (gone < batchSize) break;
    await clock.sleep(pauseMs, signal);
  }
  return deleted;
}

/** Trims by time until the signal is aborted. */
export async function keepTrimming(options: RetentionOptions, signal: AbortSignal): Promise<void> {
  const { clock, log } = options;
  while (!signal.aborted) {
    try {
      const deleted = await trimLedger(options, signal);
      if (deleted > 0) log.info({ entries: deleted }, "old usage was deleted");
    } catch (error) {
      if (!signal.aborted) log.warn({ err: error }, "old usage could not be deleted; the next round tries again");
    }
    // Rejects when the gateway stops, which ends the loop.
    await clock.sleep(intervalMs, signal).catch(() => {});
  }
}
