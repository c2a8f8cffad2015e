// Keeps the view true: the registry's watch for workers, hints and time for accounts and breakers. Both are read again from the beginning
// after any failure, so nothing that was missed stays missed.
import type { Client } from "@connectrpc/connect";
import type { RegistryService, WatchWorkersResponse } from "#gen/drawbridge/v1/registry_service";
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import { backoffMs, type Random } from "../../kit/random.ts";
import type { State } from "../../state/state.ts";
import type { View } from "./view.ts";

export interface FeedOptions {
  readonly view: View;
  readonly state: Pick<State, "accounts" | "breakers">;
  readonly registry: Pick<Client<typeof RegistryService>, "watchWorkers">;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly refreshMs: number;
  /** Told after the accounts were read. */
  readonly onRefresh: () => void;
  /** Resolves when somebody wants them read at once; asked again after each time. */
  readonly wanted: () => Promise<void>;
  readonly signal: AbortSignal;
}

const retryBaseMs = 100;
const retryMaxMs = 5_000;

/** Follows the registry until the signal is aborted. A watch that ends, with an error or without, is begun again after a pause. */
export async function followWorkers({ view, registry, clock, random, log, signal }: FeedOptions): Promise<void> {
  let failures = 0;
  while (!signal.aborted) {
    try {
      for await (const response of registry.watchWorkers({}, { signal })) {
        failures = 0;
        apply(view, response);
      }
      throw new DrawbridgeError("STATE_UNAVAILABLE", "The registry ended the watch.");
    } catch (error) {
      if (signal.aborted) return;
      failures += 1;
      log.warn({ err: error, failures }, "the watch of the workers broke; watching again");
      await pause(clock, backoffMs(failures, retryBaseMs, retryMaxMs, random), signal);
    }
  }
}

function apply(view: View, { element }: WatchWorkersResponse): void {
  switch (element.case) {
    case "snapshot":
      view.setWorkers(element.value.workers);
      break;
    case "put":
      view.putWorker(element.value);
      break;
    case "removedWorkerId":
      view.removeWorker(element.value);
      break;
    default:
      // A bookmark, or a kind that a newer registry sends.
      break;
  }
}

/** Reads accounts and breakers now. */
export async function refreshAccounts({ view, state }: Pick<FeedOptions, "view" | "state">): Promise<void> {
  const [accounts, breakers] = await Promise.all([state.accounts.list(), state.breakers.list()]);
  view.setAccounts(accounts, breakers);
}

/** Follows accounts and breakers until the signal is aborted. */
export async function followAccounts(options: FeedOptions): Promise<void> {
  const { state, clock, log, refreshMs, signal } = options;
  let hinted = Promise.withResolvers<void>();
  using _accounts = state.accounts.onChange(() => hinted.resolve());
  using _breakers = state.breakers.onChange(() => hinted.resolve());
  while (!signal.aborted) {
    hinted = Promise.withResolvers();
    const wanted = options.wanted();
    await refreshAccounts(options).catch((error: unknown) => log.warn({ err: error }, "accounts could not be read"));
    options.onRefresh();
    await Promise.race([hinted.promise, wanted, pause(clock, refreshMs, signal)]);
  }
}

/** Sleeps; an abort ends the sleep early. */
async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  await clock.sleep(ms, signal).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
}
