// The registry, put together.
import type { ServiceImpl } from "@connectrpc/connect";
import type { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { createBackground } from "../kit/background.ts";
import type { Clock } from "../kit/clock.ts";
import { DrawbridgeError } from "../kit/errors.ts";
import type { Log } from "../kit/log.ts";
import type { State } from "../state/state.ts";
import type { RegistrySettings } from "./config.ts";
import { createDirectory } from "./directory.ts";
import { createHandlers } from "./handlers.ts";
import { createDirectoryWatch } from "./watch.ts";

export interface RegistryDependencies {
  readonly state: Pick<State, "workers" | "leases" | "outcomes">;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: RegistrySettings;
}

export interface RegistryApp extends AsyncDisposable {
  readonly service: ServiceImpl<typeof RegistryService>;
  /** Begins to prune dead workers and to look for changes for the watchers. */
  start(): Promise<void>;
  /** Ends all watches, so that a server with open watches can close; their watchers go to another replica. */
  drain(): void;
}

export function createRegistryApp({ state, clock, log, config }: RegistryDependencies): RegistryApp {
  const background = createBackground(log);
  const ending = new AbortController();
  const directory = createDirectory({ state, clock, log, settings: config });
  const watch = createDirectoryWatch({ directory: state.workers, clock, log, settings: config });
  const drain = () => ending.abort(new DrawbridgeError("STATE_UNAVAILABLE", "The registry stops: watch again."));
  return {
    service: createHandlers({ directory, watch, settings: config, ending: ending.signal }),
    async start() {
      background.run("directory watch", watch.keep);
    },
    drain,
    async [Symbol.asyncDispose]() {
      drain();
      await background[Symbol.asyncDispose]();
    },
  };
}
