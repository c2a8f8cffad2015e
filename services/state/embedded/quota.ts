// The books of a user's quota. Every change keeps granted = available + held + spent; the table refuses what would not.
import { create } from "@bufbuild/protobuf";
import { type QuotaBalance, QuotaBalanceSchema } from "#gen/drawbridge/v1/access_service";
import { maxAmount, tooMuchGranted } from "../checks.ts";
import type { Database, Row } from "./database.ts";

export interface QuotaChange {
  readonly granted?: number;
  readonly available?: number;
  readonly held?: number;
  readonly spent?: number;
}

export function addQuota(database: Database, userId: string, change: QuotaChange): void {
  const { granted = 0, available = 0, held = 0, spent = 0 } = change;
  if (granted > 0) {
    const before = database.get("SELECT granted FROM users WHERE id = ?", userId);
    if (Number(before?.["granted"]) > maxAmount - granted) throw tooMuchGranted(`User "${userId}"`);
  }
  database.run(
    "UPDATE users SET granted = granted + ?, available = available + ?, held = held + ?, spent = spent + ? WHERE id = ?",
    granted,
    available,
    held,
    spent,
    userId,
  );
}

export function quotaOf(row: Row): QuotaBalance {
  const amount = (name: string) => BigInt(Number(row[name] ?? 0));
  return create(QuotaBalanceSchema, {
    granted: amount("granted"),
    available: amount("available"),
    held: amount("held"),
    spent: amount("spent"),
  });
}
