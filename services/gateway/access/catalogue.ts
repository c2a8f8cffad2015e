// What changes rarely and every request needs: users' tiers, prices. Read from the store at a hint and by time, held in memory between.
import type { Price, Tier } from "#gen/drawbridge/v1/access_service";
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { AccessStore } from "../../state/state.ts";
import { defaultTierName } from "../config.ts";

export interface Catalogue extends Disposable {
  /** The tier of that name; the default tier if it is gone. */
  tier(name: string): Promise<Tier>;
  price(model: string): Promise<Price | undefined>;
}

interface Entries {
  readonly tiers: ReadonlyMap<string, Tier>;
  readonly prices: ReadonlyMap<string, Price>;
  readonly readAt: number;
}

/** Without a hint, entries are read again after this long, in ms. */
const maxAgeMs = 1_000;

export function createCatalogue(access: AccessStore, clock: Clock): Catalogue {
  let entries: Entries | undefined;
  let reading: Promise<Entries> | undefined;
  const subscription = access.onChange(() => {
    entries = undefined;
  });
  const read = async (): Promise<Entries> => {
    const [tiers, prices] = await Promise.all([access.listTiers(), access.listPrices()]);
    entries = {
      tiers: new Map(tiers.map((tier) => [tier.name, tier])),
      prices: new Map(prices.map((price) => [price.model, price])),
      readAt: clock.monotonic(),
    };
    return entries;
  };
  const current = async (): Promise<Entries> => {
    if (entries && clock.monotonic() - entries.readAt < maxAgeMs) return entries;
    reading ??= read().finally(() => {
      reading = undefined;
    });
    return await reading;
  };
  return {
    async tier(name) {
      const { tiers } = await current();
      const tier = tiers.get(name) ?? tiers.get(defaultTierName);
      if (!tier) throw new DrawbridgeError("INTERNAL", `There is no tier "${name}", nor a default one.`);
      return tier;
    },
    price: async (model) => (await current()).prices.get(model),
    [Symbol.dispose]: () => subscription[Symbol.dispose](),
  };
}
