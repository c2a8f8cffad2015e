// The first user and keys of `up`, also of a store that is emptied while it runs: then the same ones again, as far as they are known.
import { type BootstrapOptions, type BootstrapResult, ensureAccess } from "../../gateway/access/bootstrap.ts";
import type { Clock } from "../../kit/clock.ts";
import type { Log } from "../../kit/log.ts";
import type { State } from "../../state/state.ts";
import { createStoreSetup } from "../../state/store-setup.ts";

export interface FirstKeysOptions {
  readonly state: State;
  readonly secrets: BootstrapOptions["settings"];
  readonly clock: Clock;
  readonly log: Log;
  /** Told of keys that were made later, because the store was emptied and theirs are not known. */
  readonly onNewKeys: (access: BootstrapResult) => Promise<void>;
}

export interface FirstKeys extends AsyncDisposable {
  /** Makes what is missing; from then on, looks for a store that was emptied. */
  start(): Promise<void>;
  /** Those that are known by now. */
  known(): BootstrapResult;
}

export function createFirstKeys({ state, secrets, clock, log, onNewKeys }: FirstKeysOptions): FirstKeys {
  let known: BootstrapResult | undefined;
  const setup = createStoreSetup({
    state,
    async setUp() {
      const { apiKey = secrets.apiKey, adminKey = secrets.adminKey } = known ?? {};
      const access = await ensureAccess({ state, settings: { ...secrets, apiKey, adminKey }, now: clock.now() });
      const isNew = known !== undefined && (access.apiKey !== known.apiKey || access.adminKey !== known.adminKey);
      known = access;
      if (isNew) await onNewKeys(access);
    },
    clock,
    log,
  });
  return {
    start: () => setup.start(),
    known: () => known ?? { apiKey: undefined, adminKey: undefined },
    [Symbol.asyncDispose]: () => setup[Symbol.asyncDispose](),
  };
}
