// The books of an account's credits. Every change keeps granted = available + held + spent; the table refuses what would not.
import { create } from "@bufbuild/protobuf";
import { type CreditBalance, CreditBalanceSchema } from "#gen/drawbridge/v1/account";
import { maxAmount, tooMuchGranted } from "../checks.ts";
import type { Database } from "./database.ts";

export interface CreditChange {
  readonly granted?: number;
  readonly available?: number;
  readonly held?: number;
  readonly spent?: number;
}

/** Adds the change to the books of an account, which begin at zero. */
export function addCredits(database: Database, accountId: string, change: CreditChange): CreditBalance {
  const { granted = 0, available = 0, held = 0, spent = 0 } = change;
  if (granted > 0 && Number(creditsOf(database, accountId).granted) > maxAmount - granted) {
    throw tooMuchGranted(`Account "${accountId}"`);
  }
  database.run("INSERT OR IGNORE INTO credits VALUES (?, 0, 0, 0, 0)", accountId);
  const row = database.get(
    `UPDATE credits SET granted = granted + ?, available = available + ?, held = held + ?, spent = spent + ?
     WHERE account_id = ? RETURNING *`,
    granted,
    available,
    held,
    spent,
    accountId,
  );
  return balanceOf(row ?? {});
}

export function creditsOf(database: Database, accountId: string): CreditBalance {
  return balanceOf(database.get("SELECT * FROM credits WHERE account_id = ?", accountId) ?? {});
}

export function balanceOf(row: Record<string, unknown>): CreditBalance {
  const amount = (name: string) => BigInt(Number(row[name] ?? 0));
  return create(CreditBalanceSchema, {
    granted: amount("granted"),
    available: amount("available"),
    held: amount("held"),
    spent: amount("spent"),
  });
}
