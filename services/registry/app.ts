// The registry, put together.
import type { ServiceImpl } from "@connectrpc/connect";
import type { RegistryService } from "#gen/drawbridge/v1/registry_service";
import type { Clock } from "../kit/clock.ts";
import { DrawbridgeError } from "../kit/errors.ts";
import type { Log } from "../kit/log.ts";
import type { State } from "../state/state.ts";
import type { RegistrySettings } from "./config.ts";
import { createHandlers } from "./handlers.ts";

export interface RegistryDependencies {
  readonly state: State;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: RegistrySettings;
}

export interface RegistryApp extends AsyncDisposable {
  readonly service: ServiceImpl<typeof RegistryService>;
  /** Begins to take out workers whose leases ended. */
  start(): Promise<void>;
}

export function createRegistryApp({ state, clock, log, config }: RegistryDependencies): RegistryApp {
  const ending = new AbortController();
  let pruning: Promise<void> | undefined;
  return {
    service: createHandlers({ state, clock, log, config, ending: ending.signal }),
    async start() {
      pruning ??= prune({ state, clock, log, config }, ending.signal);
    },
    async [Symbol.asyncDispose]() {
      ending.abort(new DrawbridgeError("STATE_UNAVAILABLE", "The registry stops: watch again."));
      await pruning;
    },
  };
}

async function prune({ state, clock, log, config }: RegistryDependencies, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      for (const worker_id of await state.workers.prune(clock.now())) log.warn({ worker_id }, "a worker's lease ended");
    } catch (error) {
      log.warn({ err: error }, "dead workers could not be taken out; the next round tries again");
    }
    // Rejects when the registry stops, which ends the loop.
    await clock.sleep(config.prune_interval, signal).catch(() => {});
  }
}
