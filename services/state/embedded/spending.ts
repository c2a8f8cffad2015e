// What rows of users and keys say of limits and budgets.
import { type RateLimits, RateLimitsSchema } from "#gen/drawbridge/v1/access_service";
import type { Counted, HeldBudget, Spending } from "../budgets.ts";
import type { Levels } from "../limits.ts";
import { decode } from "../records.ts";
import type { Database, Row } from "./database.ts";

/** Who has limits and budgets. */
export type Spender = "users" | "api_keys";

/** The stored buckets; undefined: nothing was ever taken from them. */
export function levelsOf(row: Row): Levels | undefined {
  if (row["requests_level"] == null) return undefined;
  return { requests: Number(row["requests_level"]), tokens: Number(row["tokens_level"]), at: Number(row["levels_at"]) };
}

export function storeLevels(database: Database, table: Spender, id: string, levels: Levels): void {
  database.run(
    `UPDATE ${table} SET requests_level = ?, tokens_level = ?, levels_at = ? WHERE id = ?`,
    levels.requests,
    levels.tokens,
    levels.at,
    id,
  );
}

/** A key's own limits. */
export function limitsOf(key: Row): RateLimits | undefined {
  return key["limits"] == null ? undefined : decode(RateLimitsSchema, key["limits"]);
}

export function spendingOf(row: Row): Spending {
  return {
    spent: Number(row["spent"] ?? 0),
    held: Number(row["held"] ?? 0),
    period: String(row["period"] ?? ""),
    periodSpent: Number(row["period_spent"] ?? 0),
    periodHeld: Number(row["period_held"] ?? 0),
  };
}

/** Counts a hold in the period that a budget counts now. */
export function holdSpending(database: Database, table: Spender, id: string, counted: Counted, held: number): void {
  if (counted.period === "") return;
  database.run(
    `UPDATE ${table} SET period = ?, period_spent = ?, period_held = ? WHERE id = ?`,
    counted.period,
    counted.spent,
    counted.held + held,
    id,
  );
}

/** Counts a charge in the period in which its hold was counted, unless that is over. */
export function settleSpending(
  database: Database,
  table: Spender,
  id: string,
  period: string,
  held: number,
  charge: number,
): void {
  if (period === "") return;
  database.run(
    `UPDATE ${table} SET period_held = period_held - ?, period_spent = period_spent + ? WHERE id = ? AND period = ?`,
    held,
    charge,
    id,
    period,
  );
}

/** The budget of the moment at which a hold was taken. */
export function heldBudget(hold: Row, whose: "user" | "key"): HeldBudget {
  const budget = hold[`${whose}_budget`];
  return { budget: budget == null ? undefined : Number(budget), period: String(hold[`${whose}_period`]) };
}
