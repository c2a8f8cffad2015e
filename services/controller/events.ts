// What happened in the fleet, for people and for WatchEvents. An event that cannot be written is logged and does not stop the work.
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Clock } from "../kit/clock.ts";
import type { Log } from "../kit/log.ts";
import type { EventLog } from "../state/state.ts";

export type EventType =
  | "LeaderElected"
  | "AccountCreated"
  | "AccountUpdated"
  | "AccountDeleted"
  | "CreditsGranted"
  | "CreditsSet"
  | "BreakerReset"
  | "ConditionChanged"
  | "WorkerCreated"
  | "WorkerReady"
  | "WorkerDraining"
  | "WorkerDestroyed"
  | "WorkerExited"
  | "ActionFailed";

export interface EventSubject {
  readonly accountId?: string;
  readonly workerId?: string;
}

/** Disposing waits for what is being written. */
export interface Events extends AsyncDisposable {
  /** Begins to write; never throws. */
  record(type: EventType, message: string, subject?: EventSubject): void;
}

export function createEvents({ store, clock, log }: { store: EventLog; clock: Clock; log: Log }): Events {
  // One after the other, so that revisions follow the order of what happened.
  let tail: Promise<void> = Promise.resolve();
  return {
    record(type, message, { accountId = "", workerId = "" } = {}) {
      const event = { at: timestampFromMs(clock.now()), type, accountId, workerId, message };
      log.info({ event: type, account: accountId, worker: workerId }, message);
      tail = tail.then(async () => {
        try {
          await store.append(event);
        } catch (error) {
          log.warn({ err: error, event: type }, "an event could not be written");
        }
      });
    },
    async [Symbol.asyncDispose]() {
      await tail;
    },
  };
}
