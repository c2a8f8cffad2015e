// Who may use the system, and for what: users, keys and codes from their files, tiers and prices here.
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { PriceSchema, TierSchema } from "#gen/drawbridge/v1/access_service";
import { compareBytes } from "../paging.ts";
import { decode, encode } from "../records.ts";
import type { AccessStore } from "../state.ts";
import { createKeyStore } from "./access-keys.ts";
import { createAdminKeyStore } from "./admin-keys.ts";
import { createCodeStore } from "./codes.ts";
import type { Connection } from "./connection.ts";
import type { ObservedContext } from "./context.ts";
import { fields } from "./replies.ts";
import { createUserStore } from "./users.ts";

export function createAccessStore(context: ObservedContext): AccessStore {
  const { connection, keys, changes } = context;
  const users = createUserStore(context);
  const tiers = createNamedRecords(connection, keys.tiers, TierSchema);
  const prices = createNamedRecords(connection, keys.prices, PriceSchema);
  const changed = async <T>(work: Promise<T>): Promise<T> => {
    const result = await work;
    changes.notify();
    return result;
  };
  return {
    onChange: changes.onChange,
    ...users,
    ...createKeyStore(context),
    ...createAdminKeyStore(context),
    ...createCodeStore(context),

    async initialized() {
      if (Number(await connection.command("HLEN", keys.adminKeys)) > 0) return true;
      return (await users.listUsers("", 1)).length > 0;
    },

    setTier: (tier) => changed(tiers.set(tier.name, tier)),
    listTiers: () => tiers.list(),
    setPrice: (price) => changed(prices.set(price.model, price)),
    listPrices: () => prices.list(),
  };
}

/** Records in one hash, by name. */
function createNamedRecords<Desc extends DescMessage>(connection: Connection, key: string, schema: Desc) {
  return {
    async set(name: string, record: MessageShape<Desc>): Promise<void> {
      await connection.command("HSET", key, name, encode(schema, record));
    },
    async list(): Promise<MessageShape<Desc>[]> {
      const records = [...fields(await connection.command("HGETALL", key))];
      return records.toSorted(([a], [b]) => compareBytes(a, b)).map(([, record]) => decode(schema, record));
    },
  };
}
