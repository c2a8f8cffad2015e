// Who may use the system, and for what: users, keys and codes from their files, tiers and prices here.
import { PriceSchema, TierSchema } from "#gen/drawbridge/v1/access_service";
import { decode, encode } from "../records.ts";
import type { AccessStore } from "../state.ts";
import { createKeyStore } from "./access-keys.ts";
import { createAdminKeyStore } from "./admin-keys.ts";
import type { Changed, Changes } from "./changes.ts";
import { createCodeStore } from "./codes.ts";
import type { Database } from "./database.ts";
import { createUserStore } from "./users.ts";

export function createAccessStore(database: Database, changes: Changes): AccessStore {
  const changed: Changed = (work) => {
    const result = database.transaction(work);
    changes.notify();
    return result;
  };
  return {
    onChange: changes.onChange,
    ...createUserStore(database, changed),
    ...createKeyStore(database, changed),
    ...createAdminKeyStore(database, changed),
    ...createCodeStore(database, changed),
    ...createLists(database, changed),
  };
}

function createLists(database: Database, changed: Changed) {
  return {
    initialized: async () =>
      database.get("SELECT 1 FROM users UNION ALL SELECT 1 FROM admin_keys LIMIT 1") !== undefined,
    setTier: async (tier) =>
      changed(
        () => void database.run("INSERT OR REPLACE INTO tiers VALUES (?, ?)", tier.name, encode(TierSchema, tier)),
      ),
    listTiers: async () =>
      database.all("SELECT record FROM tiers ORDER BY name").map((row) => decode(TierSchema, row["record"])),
    setPrice: async (price) =>
      changed(
        () => void database.run("INSERT OR REPLACE INTO prices VALUES (?, ?)", price.model, encode(PriceSchema, price)),
      ),
    listPrices: async () =>
      database.all("SELECT record FROM prices ORDER BY model").map((row) => decode(PriceSchema, row["record"])),
  } satisfies Partial<AccessStore>;
}
