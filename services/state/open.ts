// The store that a configuration names.
import { DrawbridgeError } from "../kit/errors.ts";
import type { Log } from "../kit/log.ts";
import type { State } from "./state.ts";

export interface OpenOptions {
  readonly log: Log;
  /** Whose store it is, such as "gateway": what a server that lists its connections calls this process, with its number. */
  readonly service?: string | undefined;
}

/**
 * `sqlite:PATH` or `sqlite::memory:` for one machine; `valkey://…`, `redis://…`, `rediss://…`, `valkey+sentinel://…` or `valkey+cluster://…` (all forms:
 * valkey/address.ts) for several. INVALID_ARGUMENT for anything else.
 */
export async function openState(url: string, { log, service }: OpenOptions): Promise<State> {
  const sqlite = /^sqlite:(?:\/\/)?(.+)$/s.exec(url)?.[1];
  if (sqlite !== undefined) {
    const { openEmbeddedState } = await import("./embedded/open.ts");
    return openEmbeddedState({ path: sqlite, log });
  }
  if (/^(valkeys?|rediss?)\b/.test(url)) {
    const { openValkeyState } = await import("./valkey/store.ts");
    return openValkeyState({ url, log, service });
  }
  throw new DrawbridgeError(
    "INVALID_ARGUMENT",
    'The store of "state" is not known: write sqlite:PATH, such as sqlite:.drawbridge/state.db, or valkey://HOST:PORT.',
  );
}
