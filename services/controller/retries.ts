// Back-off, per account: a worker that failed is replaced at once, and if its successor fails soon too, after waits that double.
import type { Clock } from "../kit/clock.ts";
import { backoffMs, type Random } from "../kit/random.ts";

export interface RetriesOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly baseMs: number;
  readonly maxMs: number;
  /** A worker that ran for so long counts as good. */
  readonly stableMs: number;
}

export interface Retries {
  /** A worker failed after it ran for `ranMs` (0: it could not be started), for this reason. */
  failed(accountId: string, ranMs: number, reason: string): void;
  /** The account's specification is another one, or a person acted: the next try is at once. */
  reset(accountId: string): void;
  /** No worker is started before, in ms by the clock. */
  readonly retryAt: ReadonlyMap<string, number>;
  lastFailure(accountId: string): string | undefined;
  /** Forgets accounts that are gone. */
  keep(accountIds: ReadonlySet<string>): void;
}

export function createRetries({ clock, random, baseMs, maxMs, stableMs }: RetriesOptions): Retries {
  const failures = new Map<string, { count: number; reason: string }>();
  const retryAt = new Map<string, number>();
  return {
    failed(accountId, ranMs, reason) {
      const before = ranMs >= stableMs ? 0 : (failures.get(accountId)?.count ?? 0);
      const count = before + 1;
      failures.set(accountId, { count, reason });
      // One failure is an accident.
      const waitMs = count === 1 ? 0 : backoffMs(count - 1, baseMs, maxMs, random);
      retryAt.set(accountId, clock.now() + waitMs);
    },
    reset(accountId) {
      failures.delete(accountId);
      retryAt.delete(accountId);
    },
    retryAt,
    lastFailure: (accountId) => failures.get(accountId)?.reason,
    keep(accountIds) {
      for (const map of [failures, retryAt]) {
        for (const id of map.keys()) if (!accountIds.has(id)) map.delete(id);
      }
    },
  };
}
