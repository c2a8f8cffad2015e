// Admin keys: one hash, since there are few of them.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type AdminKey, AdminKeySchema, AdminRole } from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import { checkId } from "../checks.ts";
import { compareBytes } from "../paging.ts";
import { decode, encode } from "../records.ts";
import type { AccessStore } from "../state.ts";
import type { ObservedContext } from "./context.ts";
import { fields, text } from "./replies.ts";

type AdminKeyStore = Pick<AccessStore, "addAdminKey" | "findAdminKey" | "listAdminKeys" | "revokeAdminKey">;

export function createAdminKeyStore({ connection, keys, changes }: ObservedContext): AdminKeyStore {
  const find = async (hash: string): Promise<AdminKey | undefined> => {
    const record = text(await connection.command("HGET", keys.adminKeys, hash));
    return record === undefined ? undefined : adminKeyOf(hash, record);
  };
  return {
    async addAdminKey({ id, name, prefix, hash, role }, now) {
      checkId("The admin key's id", id);
      const key = create(AdminKeySchema, { id, name, prefix, role, createdAt: timestampFromMs(now) });
      const added = await connection.command("HSETNX", keys.adminKeys, hash, encode(AdminKeySchema, key));
      if (text(added) !== "1") return (await find(hash)) ?? key;
      changes.notify();
      return key;
    },

    findAdminKey: find,

    async listAdminKeys() {
      const records = [...fields(await connection.command("HGETALL", keys.adminKeys))];
      const createdAt = (key: AdminKey) => (key.createdAt ? timestampMs(key.createdAt) : 0);
      return records
        .map(([hash, record]) => adminKeyOf(hash, record))
        .toSorted((a, b) => createdAt(a) - createdAt(b) || compareBytes(a.id, b.id));
    },

    async revokeAdminKey(id) {
      const verdict = await connection.script("revoke-admin-key", [keys.adminKeys], [id]);
      if (verdict === "missing") throw new DrawbridgeError("NOT_FOUND", `There is no admin key "${id}".`);
      if (verdict === "last") return false;
      changes.notify();
      return true;
    },
  };
}

/** Before there were roles, a record was the time at which the key was added, and each key could do everything. */
function adminKeyOf(hash: string, record: string): AdminKey {
  if (!/^\d+$/.test(record)) return decode(AdminKeySchema, record);
  const createdAt = timestampFromMs(Number(record));
  return create(AdminKeySchema, { id: `admin_${hash.slice(0, 16)}`, role: AdminRole.ADMIN, createdAt });
}
