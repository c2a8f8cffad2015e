// Users, keys, tiers and prices.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type ApiKey,
  ApiKeySchema,
  PriceSchema,
  TierSchema,
  type User,
  UserSchema,
} from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import { checkAmount, checkId } from "../checks.ts";
import type { AccessStore } from "../state.ts";
import type { Changes } from "./changes.ts";
import type { Database, Row } from "./database.ts";
import { addQuota, quotaOf } from "./quota.ts";
import { decode, encode } from "../records.ts";

export function createAccessStore(database: Database, changes: Changes): AccessStore {
  const changed = <T>(work: () => T): T => {
    const result = database.transaction(work);
    changes.notify();
    return result;
  };
  return {
    onChange: changes.onChange,
    ...users(database, changed),
    ...keys(database, changed),
    ...lists(database, changed),
  };
}

type Changed = <T>(work: () => T) => T;

function users(database: Database, changed: Changed) {
  const find = (id: string): User | undefined => {
    const row = database.get("SELECT * FROM users WHERE id = ?", id);
    return row && userOf(row);
  };
  const need = (id: string): User => {
    const user = find(id);
    if (!user) throw new DrawbridgeError("NOT_FOUND", `There is no user "${id}".`);
    return user;
  };
  return {
    async createUser(user, now) {
      checkId("The user's id", user.id);
      checkAmount("quotaMicros", user.quotaMicros);
      return changed(() => {
        if (find(user.id)) throw new DrawbridgeError("ALREADY_EXISTS", `There is a user "${user.id}" already.`);
        database.run(
          "INSERT INTO users (id, tier, granted, available, held, spent, created_at) VALUES (?, ?, ?, ?, 0, 0, ?)",
          user.id,
          user.tier,
          user.quotaMicros,
          user.quotaMicros,
          now,
        );
        return need(user.id);
      });
    },

    getUser: async (id) => find(id),

    listUsers: async (afterId, limit) =>
      database.all("SELECT * FROM users WHERE id > ? ORDER BY id LIMIT ?", afterId, limit).map(userOf),

    async grantQuota(userId, grantId, micros, now) {
      checkAmount("micros", micros);
      return changed(() => {
        need(userId);
        const fresh = database.run("INSERT OR IGNORE INTO quota_grants VALUES (?, ?, ?)", userId, grantId, now) > 0;
        if (fresh) addQuota(database, userId, { granted: micros, available: micros });
        return need(userId);
      });
    },
  } satisfies Partial<AccessStore>;
}

function keys(database: Database, changed: Changed) {
  const find = (column: "id" | "hash", value: string): ApiKey | undefined => {
    const row = database.get(`SELECT * FROM api_keys WHERE ${column} = ?`, value);
    return row && keyOf(row);
  };
  return {
    async createKey(key, now) {
      checkId("The key's id", key.id);
      if (key.budgetMicros !== undefined) checkAmount("budgetMicros", key.budgetMicros);
      return changed(() => {
        if (!database.get("SELECT 1 FROM users WHERE id = ?", key.userId)) {
          throw new DrawbridgeError("NOT_FOUND", `There is no user "${key.userId}".`);
        }
        if (find("id", key.id) ?? find("hash", key.hash)) {
          throw new DrawbridgeError("ALREADY_EXISTS", `There is a key "${key.id}" already, or this very key.`);
        }
        const row = database.get(
          `INSERT INTO api_keys (id, user_id, name, prefix, hash, models, allowed_addresses, budget, expires_at, created_at)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *`,
          key.id,
          key.userId,
          key.name,
          key.prefix,
          key.hash,
          JSON.stringify(key.models),
          JSON.stringify(key.allowedAddresses),
          key.budgetMicros ?? null,
          key.expiresAt ?? null,
          now,
        );
        return keyOf(row as Row);
      });
    },

    findKey: async (hash) => find("hash", hash),

    listKeys: async (userId, afterId, limit) =>
      (userId === undefined
        ? database.all("SELECT * FROM api_keys WHERE id > ? ORDER BY id LIMIT ?", afterId, limit)
        : database.all(
            "SELECT * FROM api_keys WHERE user_id = ? AND id > ? ORDER BY id LIMIT ?",
            userId,
            afterId,
            limit,
          )
      ).map(keyOf),

    revokeKey: async (id, now) =>
      changed(() => {
        database.run("UPDATE api_keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", now, id);
        const key = find("id", id);
        if (!key) throw new DrawbridgeError("NOT_FOUND", `There is no key "${id}".`);
        return key;
      }),

    addAdminKey: async (hash, now) =>
      changed(() => void database.run("INSERT OR IGNORE INTO admin_keys VALUES (?, ?)", hash, now)),

    isAdminKey: async (hash) => database.get("SELECT 1 FROM admin_keys WHERE hash = ?", hash) !== undefined,

    initialized: async () =>
      database.get("SELECT 1 FROM users UNION ALL SELECT 1 FROM admin_keys LIMIT 1") !== undefined,
  } satisfies Partial<AccessStore>;
}

function lists(database: Database, changed: Changed) {
  return {
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

function userOf(row: Row): User {
  return create(UserSchema, {
    id: String(row["id"]),
    tier: String(row["tier"]),
    quota: quotaOf(row),
    createdAt: timestampFromMs(Number(row["created_at"])),
  });
}

function keyOf(row: Row): ApiKey {
  const time = (name: string) => (row[name] == null ? {} : { [name]: timestampFromMs(Number(row[name])) });
  return create(ApiKeySchema, {
    id: String(row["id"]),
    userId: String(row["user_id"]),
    name: String(row["name"]),
    prefix: String(row["prefix"]),
    models: JSON.parse(String(row["models"])) as string[],
    allowedAddresses: JSON.parse(String(row["allowed_addresses"])) as string[],
    ...(row["budget"] == null ? {} : { budgetMicros: BigInt(Number(row["budget"])) }),
    spentMicros: BigInt(Number(row["spent"])),
    expiresAt: time("expires_at")["expires_at"],
    revokedAt: time("revoked_at")["revoked_at"],
    createdAt: timestampFromMs(Number(row["created_at"])),
  });
}
