// The holds of requests that run here, renewed so that no sweep takes them for a dead gateway's.
import type { Clock } from "../../kit/clock.ts";
import type { Log } from "../../kit/log.ts";
import type { Ledger } from "../../state/state.ts";

export interface HeldRequest {
  readonly userId: string;
  readonly requestId: string;
  readonly keyId: string;
}

export interface Holds extends AsyncDisposable {
  add(hold: HeldRequest): void;
  /** No longer renewed: settled, or left to the sweep. */
  remove(requestId: string): void;
  /** Whether the request runs here, or waits here to be settled. */
  has(requestId: string): boolean;
  /** Begins to renew. */
  start(): void;
}

export interface HoldsOptions {
  readonly ledger: Ledger;
  readonly clock: Clock;
  readonly log: Log;
  /** How long a hold lives without a renewal. */
  readonly ttlMs: number;
}

/** Three in a hold's life, so that one lost renewal ends none. */
const renewalsInLife = 3;

export function createHolds({ ledger, clock, log, ttlMs }: HoldsOptions): Holds {
  const open = new Map<string, HeldRequest>();
  const ending = new AbortController();
  let renewing: Promise<void> = Promise.resolve();

  const keepRenewing = async (signal: AbortSignal) => {
    while (!signal.aborted) {
      try {
        await clock.sleep(ttlMs / renewalsInLife, signal);
        await ledger.renew([...open.values()], clock.now() + ttlMs);
      } catch (error) {
        if (!signal.aborted) log.error({ err: error }, "holds could not be renewed");
      }
    }
  };

  return {
    add: (hold) => void open.set(hold.requestId, hold),
    remove: (requestId) => void open.delete(requestId),
    has: (requestId) => open.has(requestId),
    start() {
      renewing = keepRenewing(ending.signal);
    },
    async [Symbol.asyncDispose]() {
      ending.abort();
      await renewing;
    },
  };
}
