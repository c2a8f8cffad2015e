// Users, admin keys, tiers and prices. A user's keys share a slot.
import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  PriceSchema,
  type QuotaBalance,
  QuotaBalanceSchema,
  TierSchema,
  type User,
  UserSchema,
} from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import { checkAmount, checkId, maxAmount, tooMuchGranted } from "../checks.ts";
import { compareBytes } from "../paging.ts";
import { decode, encode } from "../records.ts";
import type { AccessStore } from "../state.ts";
import { createKeyStore } from "./access-keys.ts";
import type { Connection } from "./connection.ts";
import type { ObservedContext } from "./context.ts";
import { listById } from "./pages.ts";
import { fields, text, texts } from "./replies.ts";

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

    addAdminKey: async (hash, now) => void (await changed(connection.command("HSETNX", keys.adminKeys, hash, now))),
    isAdminKey: async (hash) => text(await connection.command("HEXISTS", keys.adminKeys, hash)) === "1",
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

function createUserStore({ connection, keys, changes }: ObservedContext) {
  const getUser = async (id: string): Promise<User | undefined> => {
    const reply = texts(await connection.command("HMGET", keys.user(id), ...userFields));
    return reply[0] === undefined ? undefined : userOf(id, reply);
  };
  const need = async (id: string): Promise<User> => {
    const user = await getUser(id);
    if (!user) throw new DrawbridgeError("NOT_FOUND", `There is no user "${id}".`);
    return user;
  };
  return {
    async createUser(user, now) {
      checkId("The user's id", user.id);
      checkAmount("quotaMicros", user.quotaMicros);
      // First the list: a name in it without a user is skipped, a user who is not in it would be lost.
      await connection.command("ZADD", keys.users, 0, user.id);
      const created = await connection.script("create-user", [keys.user(user.id)], [user.tier, user.quotaMicros, now]);
      if (text(created) !== "1") {
        throw new DrawbridgeError("ALREADY_EXISTS", `There is a user "${user.id}" already.`);
      }
      changes.notify();
      return need(user.id);
    },

    getUser,

    listUsers: (afterId, limit) =>
      listById(connection, keys.users, { afterId, limit }, (ids) => Promise.all(ids.map(getUser))),

    async grantQuota(userId, grantId, micros, _now) {
      checkAmount("micros", micros);
      const grantKeys = [keys.user(userId), keys.quotaGrants(userId)];
      const verdict = await connection.script("grant-quota", grantKeys, [grantId, micros, maxAmount]);
      if (verdict === "too much") throw tooMuchGranted(`User "${userId}"`);
      changes.notify();
      return need(userId);
    },
  } satisfies Partial<AccessStore>;
}

const userFields = ["tier", "created_at", "granted", "available", "held", "spent"];

function userOf(id: string, [tier, createdAt, ...amounts]: readonly (string | undefined)[]): User {
  return create(UserSchema, {
    id,
    tier: tier ?? "",
    quota: quotaOf(amounts),
    createdAt: timestampFromMs(Number(createdAt)),
  });
}

/** granted, available, held, spent */
export function quotaOf(amounts: readonly (string | undefined)[]): QuotaBalance {
  const [granted = 0n, available = 0n, held = 0n, spent = 0n] = amounts.map((amount) => BigInt(amount ?? 0));
  return create(QuotaBalanceSchema, { granted, available, held, spent });
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
