// Redemption codes.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type RedemptionCode, RedemptionCodeSchema } from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import { checkAmount, checkId } from "../checks.ts";
import type { AccessStore } from "../state.ts";
import type { Changed } from "./changes.ts";
import type { Database, Row } from "./database.ts";
import { grantOnce, needUser } from "./users.ts";

type CodeStore = Pick<AccessStore, "addCodes" | "listCodes" | "redeemCode">;

export function createCodeStore(database: Database, changed: Changed): CodeStore {
  return {
    async addCodes(codes, now) {
      for (const { id, quotaMicros } of codes) {
        checkId("The code's id", id);
        checkAmount("quotaMicros", quotaMicros);
      }
      return changed(() =>
        codes.map(({ id, name, prefix, hash, quotaMicros, expiresAt }) => {
          if (database.get("SELECT 1 FROM codes WHERE id = ? OR hash = ?", id, hash)) {
            throw new DrawbridgeError("ALREADY_EXISTS", `There is a code "${id}" already, or this very code.`);
          }
          const row = database.get(
            `INSERT INTO codes (id, name, prefix, hash, micros, expires_at, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)
             RETURNING *`,
            id,
            name,
            prefix,
            hash,
            quotaMicros,
            expiresAt ?? null,
            now,
          );
          return codeOf(row ?? {});
        }),
      );
    },

    listCodes: async (afterId, limit) =>
      database.all("SELECT * FROM codes WHERE id > ? ORDER BY id LIMIT ?", afterId, limit).map(codeOf),

    redeemCode: async (hash, userId, now) =>
      changed(() => {
        needUser(database, userId);
        const code = database.get("SELECT * FROM codes WHERE hash = ?", hash);
        if (!code) return { redeemed: false, refused: "unknown" };
        if (code["redeemed_by"] != null) return { redeemed: false, refused: "used" };
        if (code["expires_at"] != null && Number(code["expires_at"]) <= now) {
          return { redeemed: false, refused: "expired" };
        }
        const id = String(code["id"]);
        const quotaMicros = Number(code["micros"]);
        database.run("UPDATE codes SET redeemed_by = ?, redeemed_at = ? WHERE id = ?", userId, now, id);
        grantOnce(database, { userId, grantId: `code ${id}`, micros: quotaMicros, now });
        return { redeemed: true, user: needUser(database, userId), quotaMicros };
      }),
  };
}

function codeOf(row: Row): RedemptionCode {
  const time = (name: string) => (row[name] == null ? undefined : timestampFromMs(Number(row[name])));
  return create(RedemptionCodeSchema, {
    id: String(row["id"]),
    name: String(row["name"]),
    prefix: String(row["prefix"]),
    quotaMicros: BigInt(Number(row["micros"])),
    expiresAt: time("expires_at"),
    createdAt: time("created_at"),
    redeemedBy: String(row["redeemed_by"] ?? ""),
    redeemedAt: time("redeemed_at"),
  });
}
