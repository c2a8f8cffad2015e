// Admin keys.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type AdminKey, AdminKeySchema, AdminRole } from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import { checkId } from "../checks.ts";
import type { AccessStore } from "../state.ts";
import type { Changed } from "./changes.ts";
import type { Database, Row } from "./database.ts";

type AdminKeyStore = Pick<AccessStore, "addAdminKey" | "findAdminKey" | "listAdminKeys" | "revokeAdminKey">;

export function createAdminKeyStore(database: Database, changed: Changed): AdminKeyStore {
  const find = (hash: string): AdminKey | undefined => {
    const row = database.get("SELECT * FROM admin_keys WHERE hash = ?", hash);
    return row && adminKeyOf(row);
  };
  return {
    async addAdminKey(key, now) {
      checkId("The admin key's id", key.id);
      return changed(() => {
        const { id, name, prefix, hash, role } = key;
        const known = find(hash);
        if (known) return known;
        database.run("INSERT INTO admin_keys VALUES (?, ?, ?, ?, ?, ?)", id, name, prefix, hash, role, now);
        return create(AdminKeySchema, { id, name, prefix, role, createdAt: timestampFromMs(now) });
      });
    },

    findAdminKey: async (hash) => find(hash),

    listAdminKeys: async () => database.all("SELECT * FROM admin_keys ORDER BY created_at, id").map(adminKeyOf),

    revokeAdminKey: async (id) =>
      changed(() => {
        const row = database.get("SELECT role FROM admin_keys WHERE id = ?", id);
        if (!row) throw new DrawbridgeError("NOT_FOUND", `There is no admin key "${id}".`);
        const admins = database.get("SELECT count(*) AS count FROM admin_keys WHERE role = ?", AdminRole.ADMIN);
        if (row["role"] === AdminRole.ADMIN && Number(admins?.["count"]) < 2) return false;
        database.run("DELETE FROM admin_keys WHERE id = ?", id);
        return true;
      }),
  };
}

function adminKeyOf(row: Row): AdminKey {
  return create(AdminKeySchema, {
    id: String(row["id"]),
    name: String(row["name"]),
    prefix: String(row["prefix"]),
    role: Number(row["role"]) as AdminRole,
    createdAt: timestampFromMs(Number(row["created_at"])),
  });
}
