// API keys. A key's record stands with its user, where admission needs it; a directory in one slot knows the id and the hash of every key, so
// that both are nobody else's.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type ApiKey, ApiKeySchema } from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import { checkAmount, checkId } from "../checks.ts";
import type { AccessStore, NewApiKey } from "../state.ts";
import type { ObservedContext } from "./context.ts";
import { listById } from "./pages.ts";
import { fields, text, texts } from "./replies.ts";

type KeyStore = Pick<AccessStore, "createKey" | "findKey" | "listKeys" | "revokeKey">;

export function createKeyStore({ connection, keys, changes }: ObservedContext): KeyStore {
  const load = async (places: readonly { readonly id: string; readonly userId: string }[]) => {
    const replies = await connection.together(places.map(({ id, userId }) => ["HGETALL", keys.key(userId, id)]));
    return replies.map((reply, index) => keyOf(places[index]?.userId ?? "", fields(reply)));
  };
  const loadOwned = async (ids: readonly string[]) => {
    const owners = texts(await connection.command("HMGET", keys.keyOwners, ...ids));
    return load(ids.map((id, index) => ({ id, userId: owners[index] ?? "" })));
  };
  const ownerOf = async (id: string) => text(await connection.command("HGET", keys.keyOwners, id));

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
      const [created] = await load([key]);
      if (!created) throw noUser();
      return created;
    },

    async findKey(hash) {
      const id = text(await connection.command("HGET", keys.keyHashes, hash));
      return id === undefined ? undefined : (await loadOwned([id]))[0];
    },

    listKeys: (userId, afterId, limit) =>
      userId === undefined
        ? listById(connection, keys.keyIds, { afterId, limit }, loadOwned)
        : listById(connection, keys.userKeys(userId), { afterId, limit }, (ids) =>
            load(ids.map((id) => ({ id, userId }))),
          ),

    async revokeKey(id, now) {
      const notFound = () => new DrawbridgeError("NOT_FOUND", `There is no key "${id}".`);
      const userId = await ownerOf(id);
      if (userId === undefined) throw notFound();
      const revoked = await connection.script("revoke-key", [keys.key(userId, id)], [now]);
      if (text(revoked) !== "1") throw notFound();
      changes.notify();
      const [key] = await load([{ id, userId }]);
      if (!key) throw notFound();
      return key;
    },
  };
}

function fieldsOf(key: NewApiKey, now: number): (string | number)[] {
  const always = ["id", key.id, "name", key.name, "prefix", key.prefix, "held", 0, "spent", 0, "created_at", now];
  return [
    ...always,
    ...(key.models.length > 0 ? ["models", JSON.stringify(key.models)] : []),
    ...(key.allowedAddresses.length > 0 ? ["allowed_addresses", JSON.stringify(key.allowedAddresses)] : []),
    ...(key.budgetMicros === undefined ? [] : ["budget", key.budgetMicros]),
    ...(key.expiresAt === undefined ? [] : ["expires_at", key.expiresAt]),
  ];
}

/** undefined: there are no fields, so there is no key. */
function keyOf(userId: string, stored: ReadonlyMap<string, string>): ApiKey | undefined {
  const id = stored.get("id");
  if (id === undefined) return undefined;
  const list = (name: string) => JSON.parse(stored.get(name) ?? "[]") as string[];
  const time = (name: string) => (stored.has(name) ? timestampFromMs(Number(stored.get(name))) : undefined);
  const budget = stored.get("budget");
  return create(ApiKeySchema, {
    id,
    userId,
    name: stored.get("name") ?? "",
    prefix: stored.get("prefix") ?? "",
    models: list("models"),
    allowedAddresses: list("allowed_addresses"),
    ...(budget === undefined ? {} : { budgetMicros: BigInt(budget) }),
    spentMicros: BigInt(stored.get("spent") ?? 0),
    expiresAt: time("expires_at"),
    revokedAt: time("revoked_at"),
    createdAt: timestampFromMs(Number(stored.get("created_at"))),
  });
}
