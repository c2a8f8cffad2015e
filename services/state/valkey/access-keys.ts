// API keys. A key's record stands with its user, where admission needs it; a directory in one slot knows the id and the hash of every key, so
// that both are nobody else's.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type ApiKey, ApiKeySchema, type RateLimits, RateLimitsSchema } from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import { budgetMessage } from "../budgets.ts";
import { checkAmount, checkId } from "../checks.ts";
import type { AccessStore, NewApiKey } from "../state.ts";
import type { Argument } from "./connection.ts";
import type { ObservedContext } from "./context.ts";
import { listById } from "./pages.ts";
import { fields, text, texts } from "./replies.ts";
import { budgetFields, budgetTermsOf, type FieldChanges, spendingOf, updateRecord } from "./users.ts";

type KeyStore = Pick<AccessStore, "createKey" | "findKey" | "listKeys" | "revokeKey" | "updateKey" | "rotateKey">;

export function createKeyStore(context: ObservedContext): KeyStore {
  const { connection, keys, changes } = context;
  const load = async (places: readonly { readonly id: string; readonly userId: string }[]) => {
    const replies = await connection.together(places.map(({ id, userId }) => ["HGETALL", keys.key(userId, id)]));
    return replies.map((reply, index) => keyOf(places[index]?.userId ?? "", fields(reply)));
  };
  const loadOwned = async (ids: readonly string[]) => {
    const owners = texts(await connection.command("HMGET", keys.keyOwners, ...ids));
    return load(ids.map((id, index) => ({ id, userId: owners[index] ?? "" })));
  };
  const noKey = (id: string) => new DrawbridgeError("NOT_FOUND", `There is no key "${id}".`);
  const ownerOf = async (id: string) => {
    const userId = text(await connection.command("HGET", keys.keyOwners, id));
    if (userId === undefined) throw noKey(id);
    return userId;
  };
  const need = async (id: string, userId: string): Promise<ApiKey> => {
    const [key] = await load([{ id, userId }]);
    if (!key) throw noKey(id);
    return key;
  };

  return {
    async createKey(key, now) {
      checkId("The key's id", key.id);
      if (key.budgetMicros !== undefined) checkAmount("budgetMicros", key.budgetMicros);
      const noUser = () => new DrawbridgeError("NOT_FOUND", `There is no user "${key.userId}".`);
      const known = () =>
        new DrawbridgeError("ALREADY_EXISTS", `There is a key "${key.id}" already, or this very key.`);
      // Users stay, so after this look a claim is followed by the key; if this process dies in between, the same call completes it.
      if (Number(await connection.command("EXISTS", keys.user(key.userId))) === 0) throw noUser();
      const directory = [keys.keyOwners, keys.keyHashes, keys.keyIds];
      const claimed = await connection.script("claim-key", directory, [key.id, key.hash, key.userId]);
      if (text(claimed) !== "1") throw known();
      const keyKeys = [keys.user(key.userId), keys.key(key.userId, key.id), keys.userKeys(key.userId)];
      const verdict = await connection.script("create-key", keyKeys, [key.id, ...fieldsOf(key, now)]);
      if (verdict === "missing") throw noUser();
      if (verdict !== "created") throw known();
      changes.notify();
      return need(key.id, key.userId);
    },

    async findKey(hash) {
      const id = text(await connection.command("HGET", keys.keyHashes, hash));
      const userId = id === undefined ? undefined : text(await connection.command("HGET", keys.keyOwners, id));
      if (id === undefined || userId === undefined) return undefined;
      return foundKey(userId, fields(await connection.command("HGETALL", keys.key(userId, id))), hash);
    },

    listKeys: (userId, afterId, limit) =>
      userId === undefined
        ? listById(connection, keys.keyIds, { afterId, limit }, loadOwned)
        : listById(connection, keys.userKeys(userId), { afterId, limit }, (ids) =>
            load(ids.map((id) => ({ id, userId }))),
          ),

    async revokeKey(id, now) {
      const userId = await ownerOf(id);
      const revoked = await connection.script("revoke-key", [keys.key(userId, id)], [now]);
      if (text(revoked) !== "1") throw noKey(id);
      changes.notify();
      return need(id, userId);
    },

    async updateKey(id, update) {
      if (update.budget) checkAmount("budget", update.budget.micros);
      const { name, models, allowedAddresses, budget, limits, expiresAt } = update;
      const userId = await ownerOf(id);
      await updateRecord(context, keys.key(userId, id), () => noKey(id), [
        ...(name === undefined ? [] : [{ set: ["name", name], remove: [] }]),
        ...("models" in update ? [listField("models", models)] : []),
        ...("allowedAddresses" in update ? [listField("allowed_addresses", allowedAddresses)] : []),
        ...("budget" in update ? [budgetFields(budget)] : []),
        ...("limits" in update ? [limitFields(limits)] : []),
        ...("expiresAt" in update ? [optionalField("expires_at", expiresAt)] : []),
      ]);
      return need(id, userId);
    },

    async rotateKey(id, { prefix, hash, previousEndsAt }) {
      const userId = await ownerOf(id);
      // First the directory: a hash in it that is not its key's finds nothing.
      await connection.command("HSETNX", keys.keyHashes, hash, id);
      if (text(await connection.command("HGET", keys.keyHashes, hash)) !== id) {
        throw new DrawbridgeError("ALREADY_EXISTS", "There is this very key already.");
      }
      const dropped = await connection.script("rotate-key", [keys.key(userId, id)], [hash, prefix, previousEndsAt]);
      if (dropped === null) throw noKey(id);
      if (text(dropped) !== "") await connection.command("HDEL", keys.keyHashes, text(dropped) ?? "");
      changes.notify();
      return need(id, userId);
    },
  };
}

/** The key that a hash finds now; the secret before the present one finds it until its grace is over. */
function foundKey(userId: string, stored: ReadonlyMap<string, string>, hash: string): ApiKey | undefined {
  const key = keyOf(userId, stored);
  // A record from before keys could rotate has no hash: there is but the one that found it.
  if (!key || (stored.get("hash") ?? hash) === hash) return key;
  if (stored.get("previous_hash") !== hash) return undefined;
  const graceEndsAt = Number(stored.get("previous_ends_at"));
  const endsAt = Math.min(graceEndsAt, key.expiresAt ? timestampMs(key.expiresAt) : graceEndsAt);
  return create(ApiKeySchema, { ...key, expiresAt: timestampFromMs(endsAt) });
}

function optionalField(name: string, value: Argument | undefined): FieldChanges {
  return value === undefined ? { set: [], remove: [name] } : { set: [name, value], remove: [] };
}

function listField(name: string, values: readonly string[] | undefined): FieldChanges {
  return optionalField(name, values && values.length > 0 ? JSON.stringify(values) : undefined);
}

function limitFields(limits: RateLimits | undefined): FieldChanges {
  const each = [
    optionalField("rpm", limits?.requestsPerMinute?.toString()),
    optionalField("tpm", limits?.tokensPerMinute?.toString()),
    optionalField("concurrency", limits?.concurrency?.toString()),
  ];
  return { set: each.flatMap(({ set }) => set), remove: each.flatMap(({ remove }) => remove) };
}

function fieldsOf(key: NewApiKey, now: number): Argument[] {
  const { id, name, prefix, hash, budgetMicros } = key;
  const budget = budgetMicros === undefined ? undefined : { micros: budgetMicros, window: key.budgetWindow || 1 };
  return [
    ...Object.entries({ id, name, prefix, hash, held: 0, spent: 0, created_at: now }).flat(),
    ...listField("models", key.models).set,
    ...listField("allowed_addresses", key.allowedAddresses).set,
    ...budgetFields(budget).set,
    ...limitFields(key.limits).set,
    ...optionalField("expires_at", key.expiresAt).set,
  ];
}

/** undefined: there are no fields, so there is no key. */
function keyOf(userId: string, stored: ReadonlyMap<string, string>): ApiKey | undefined {
  const id = stored.get("id");
  if (id === undefined) return undefined;
  const list = (name: string) => JSON.parse(stored.get(name) ?? "[]") as string[];
  const time = (name: string) => (stored.has(name) ? timestampFromMs(Number(stored.get(name))) : undefined);
  const terms = budgetTermsOf(stored);
  const limits = limitsOf(stored);
  return create(ApiKeySchema, {
    id,
    userId,
    name: stored.get("name") ?? "",
    prefix: stored.get("prefix") ?? "",
    models: list("models"),
    allowedAddresses: list("allowed_addresses"),
    ...(terms ? { budgetMicros: BigInt(terms.micros), budget: budgetMessage(terms, spendingOf(stored)) } : {}),
    spentMicros: BigInt(stored.get("spent") ?? 0),
    ...(limits ? { limits } : {}),
    expiresAt: time("expires_at"),
    revokedAt: time("revoked_at"),
    createdAt: timestampFromMs(Number(stored.get("created_at"))),
    previousEndsAt: time("previous_ends_at"),
  });
}

/** A key's own limits; undefined: it has none. */
export function limitsOf(stored: ReadonlyMap<string, string>): RateLimits | undefined {
  const limit = (name: string) => (stored.has(name) ? BigInt(stored.get(name) ?? 0) : undefined);
  const [requestsPerMinute, tokensPerMinute, concurrency] = ["rpm", "tpm", "concurrency"].map(limit);
  if ([requestsPerMinute, tokensPerMinute, concurrency].every((each) => each === undefined)) return undefined;
  return create(RateLimitsSchema, {
    ...(requestsPerMinute === undefined ? {} : { requestsPerMinute }),
    ...(tokensPerMinute === undefined ? {} : { tokensPerMinute }),
    ...(concurrency === undefined ? {} : { concurrency }),
  });
}
