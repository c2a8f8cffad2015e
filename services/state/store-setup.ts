// What a process brings into the store when it starts, and again when the store is a new one: an emptied store has no accounts, keys or prices, and
// that says nothing about what is wanted. What was changed since stays, as long as the store does.
import type { Clock } from "../kit/clock.ts";
import { DrawbridgeError } from "../kit/errors.ts";
import type { Log } from "../kit/log.ts";
import { newId } from "../kit/random.ts";
import type { State } from "./state.ts";

export interface StoreSetupOptions {
  readonly state: Pick<State, "identify">;
  /** Brings everything into the store. It may be repeated, and may meet others that do the same. */
  readonly setUp: () => Promise<unknown>;
  readonly clock: Clock;
  readonly log: Log;
}

export interface StoreSetup extends AsyncDisposable {
  /** Sets the store up; from then on, looks for a new one. */
  start(): Promise<void>;
  /** What `work` reads, and all of it from a store that is set up: a new one is set up first, and read again. */
  read<Result>(work: () => Promise<Result>): Promise<Result>;
}

/** Between two looks, which are one small command each. */
const lookEveryMs = 2_000;
const triesMax = 5;

export function createStoreSetup({ state, setUp, clock, log }: StoreSetupOptions): StoreSetup {
  const stopping = new AbortController();
  /** The store that was set up. */
  let known: string | undefined;
  let setUps = 0;
  let looks: Promise<void> = Promise.resolve();
  let loop: Promise<void> = Promise.resolve();

  async function look(): Promise<void> {
    const identity = await state.identify(newId("store"));
    if (identity === known) return;
    if (known !== undefined) log.warn({ store: identity }, "the store is a new one; setting it up again");
    await setUp();
    // Only now: what failed is done again with the next look.
    known = identity;
    setUps += 1;
  }

  /** One after the other, so that each says how the store is after it was asked for. */
  function ensure(): Promise<void> {
    const result = looks.then(look);
    looks = result.catch(() => {
      // Whoever asked hears of it.
    });
    return result;
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        await clock.sleep(lookEveryMs, stopping.signal);
        await ensure();
      } catch (error) {
        if (!stopping.signal.aborted) log.warn({ err: error }, "could not look whether the store is still the same");
      }
    }
  }

  return {
    async start() {
      await ensure();
      loop = run();
    },
    async read(work) {
      for (let tries = 0; tries < triesMax; tries++) {
        const before = setUps;
        const result = await work();
        await ensure();
        if (setUps === before) return result;
      }
      throw new DrawbridgeError("STATE_UNAVAILABLE", "The store is emptied again and again. Look who does that.");
    },
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await loop;
      await looks;
    },
  };
}
