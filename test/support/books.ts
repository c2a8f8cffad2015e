// The JSON of the client commands, and the equation that the books must always satisfy: granted = available + held + spent.
import { expect } from "vitest";
import type { System } from "./system.ts";
import { until } from "./until.ts";

/** Amounts in millionths of a dollar. */
export interface UserRow {
  readonly id: string;
  readonly granted: number;
  readonly available: number;
  readonly held: number;
  readonly spent: number;
}

/** Amounts in thousandths of a credit. */
export interface AccountRow {
  readonly id: string;
  readonly agent: string;
  readonly models: unknown;
  readonly granted: number;
  readonly credits: number;
  readonly held: number;
  readonly spent: number;
  readonly breaker: string;
  readonly conditions: readonly unknown[];
  readonly workers: readonly unknown[];
}

export interface UsageRow {
  readonly request_id: string;
  readonly user: string;
  readonly key: string;
  readonly model: string;
  readonly account: string;
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly source: string;
  /** Millionths of a dollar. */
  readonly cost: number;
  /** Thousandths of a credit. */
  readonly credits: number;
  readonly end: string;
  readonly at: string;
}

export interface WorkerRow {
  readonly id: string;
  readonly pid: number;
  readonly address: string;
  readonly accounts: readonly string[];
  readonly health: string;
  readonly slots: number;
  readonly available_slots: number;
  readonly queue_depth: number;
  readonly version: string;
}

export interface StatusRow {
  readonly leader: unknown;
  readonly workers: readonly WorkerRow[];
  readonly accounts: readonly AccountRow[];
}

export function expectUserBalanced(user: UserRow): void {
  expect({ id: user.id, granted: user.granted }).toEqual({
    id: user.id,
    granted: user.available + user.held + user.spent,
  });
}

export function expectAccountBalanced(account: AccountRow): void {
  const sum = account.credits + account.held + account.spent;
  expect({ id: account.id, granted: account.granted }).toEqual({ id: account.id, granted: sum });
}

export interface Books {
  readonly user: UserRow;
  readonly accounts: readonly AccountRow[];
  readonly usage: readonly UsageRow[];
}

/**
 * Waits until nothing is held any more, checks every balance at each look, and that the ledger adds up to what was spent: by the user, and by
 * each account.
 */
export async function settledBooks(system: System, user: string, timeoutMs = 30_000): Promise<Books> {
  const books = await until(
    `nothing of user ${user} or any account is held`,
    async () => {
      const [row, accounts] = await Promise.all([
        system.cli<UserRow>("user", "get", user),
        system.cli<AccountRow[]>("account", "list"),
      ]);
      return row.held === 0 && accounts.every((each) => each.held === 0) && { user: row, accounts };
    },
    { timeoutMs, everyMs: 200 },
  );
  expectUserBalanced(books.user);
  for (const account of books.accounts) expectAccountBalanced(account);
  const usage = await system.cli<UsageRow[]>("usage", "--user", user);
  expect(sum(usage.map((row) => row.cost))).toBe(books.user.spent);
  expect(new Set(usage.map((row) => row.request_id)).size).toBe(usage.length);
  return { ...books, usage };
}

export function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
