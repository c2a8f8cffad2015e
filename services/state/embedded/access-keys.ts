// API keys.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type ApiKey, ApiKeySchema, type BudgetWindow, RateLimitsSchema } from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import { budgetMessage } from "../budgets.ts";
import { checkAmount, checkId } from "../checks.ts";
import { encode } from "../records.ts";
import type { AccessStore, NewApiKey } from "../state.ts";
import type { Changed } from "./changes.ts";
import { type Database, type Row, updateColumns } from "./database.ts";
import { limitsOf, spendingOf } from "./spending.ts";
import { needUser } from "./users.ts";

type KeyStore = Pick<AccessStore, "createKey" | "findKey" | "listKeys" | "revokeKey" | "updateKey" | "rotateKey">;

export function createKeyStore(database: Database, changed: Changed): KeyStore {
  const need = (id: string): ApiKey => {
    const row = database.get("SELECT * FROM api_keys WHERE id = ?", id);
    if (!row) throw new DrawbridgeError("NOT_FOUND", `There is no key "${id}".`);
    return keyOf(row);
  };
  const rowOfHash = (hash: string) =>
    database.get("SELECT * FROM api_keys WHERE hash = ?", hash) ??
    database.get("SELECT * FROM api_keys WHERE previous_hash = ?", hash);

  return {
    async createKey(key, now) {
      checkId("The key's id", key.id);
      if (key.budgetMicros !== undefined) checkAmount("budgetMicros", key.budgetMicros);
      return changed(() => {
        needUser(database, key.userId);
        if (database.get("SELECT 1 FROM api_keys WHERE id = ?", key.id) ?? rowOfHash(key.hash)) {
          throw new DrawbridgeError("ALREADY_EXISTS", `There is a key "${key.id}" already, or this very key.`);
        }
        insertKey(database, key, now);
        return need(key.id);
      });
    },

    async findKey(hash) {
      const row = rowOfHash(hash);
      if (!row) return undefined;
      const key = keyOf(row);
      if (row["hash"] === hash) return key;
      const endsAt = Math.min(Number(row["previous_ends_at"]), key.expiresAt ? timestampMs(key.expiresAt) : Infinity);
      return create(ApiKeySchema, { ...key, expiresAt: timestampFromMs(endsAt) });
    },

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
        return need(id);
      }),

    async updateKey(id, changes) {
      if (changes.budget) checkAmount("budget", changes.budget.micros);
      const { name, models, allowedAddresses, budget, limits, expiresAt } = changes;
      return changed(() => {
        need(id);
        updateColumns(database, "api_keys", id, {
          ...("name" in changes ? { name: name ?? "" } : {}),
          ...("models" in changes ? { models: JSON.stringify(models ?? []) } : {}),
          ...("allowedAddresses" in changes ? { allowed_addresses: JSON.stringify(allowedAddresses ?? []) } : {}),
          ...("budget" in changes ? { budget: budget?.micros ?? null, budget_window: budget?.window ?? 1 } : {}),
          ...("limits" in changes ? { limits: limits ? encode(RateLimitsSchema, limits) : null } : {}),
          ...("expiresAt" in changes ? { expires_at: expiresAt ?? null } : {}),
        });
        return need(id);
      });
    },

    rotateKey: async (id, { prefix, hash, previousEndsAt }) =>
      changed(() => {
        need(id);
        if (rowOfHash(hash)) throw new DrawbridgeError("ALREADY_EXISTS", "There is this very key already.");
        database.run(
          "UPDATE api_keys SET previous_hash = hash, previous_ends_at = ?, hash = ?, prefix = ? WHERE id = ?",
          previousEndsAt,
          hash,
          prefix,
          id,
        );
        return need(id);
      }),
  };
}

function insertKey(database: Database, key: NewApiKey, now: number): void {
  database.run(
    `INSERT INTO api_keys (id, user_id, name, prefix, hash, models, allowed_addresses, budget, budget_window, limits,
       expires_at, created_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    key.id,
    key.userId,
    key.name,
    key.prefix,
    key.hash,
    JSON.stringify(key.models),
    JSON.stringify(key.allowedAddresses),
    key.budgetMicros ?? null,
    key.budgetWindow || 1,
    key.limits ? encode(RateLimitsSchema, key.limits) : null,
    key.expiresAt ?? null,
    now,
  );
}

function keyOf(row: Row): ApiKey {
  const time = (name: string) => (row[name] == null ? undefined : timestampFromMs(Number(row[name])));
  const limits = limitsOf(row);
  const terms =
    row["budget"] == null
      ? undefined
      : { micros: Number(row["budget"]), window: Number(row["budget_window"]) as BudgetWindow };
  return create(ApiKeySchema, {
    id: String(row["id"]),
    userId: String(row["user_id"]),
    name: String(row["name"]),
    prefix: String(row["prefix"]),
    models: JSON.parse(String(row["models"])) as string[],
    allowedAddresses: JSON.parse(String(row["allowed_addresses"])) as string[],
    ...(terms ? { budgetMicros: BigInt(terms.micros), budget: budgetMessage(terms, spendingOf(row)) } : {}),
    spentMicros: BigInt(Number(row["spent"])),
    ...(limits ? { limits } : {}),
    expiresAt: time("expires_at"),
    revokedAt: time("revoked_at"),
    createdAt: timestampFromMs(Number(row["created_at"])),
    previousEndsAt: time("previous_ends_at"),
  });
}
