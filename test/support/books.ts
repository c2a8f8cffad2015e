// The equation that the books must always satisfy: granted = available + held + spent.
import { expect } from "vitest";
import type { AccountRow, Admin, UsageRow, UserRow } from "./admin.ts";
import { until } from "./until.ts";

export function expectUserBalanced({ id, granted, available, held, spent }: UserRow): void {
  expect({ id, granted }).toEqual({ id, granted: available + held + spent });
}

export function expectAccountBalanced({ id, granted, credits, held, spent }: AccountRow): void {
  expect({ id, granted }).toEqual({ id, granted: credits + held + spent });
}

export interface Books {
  readonly user: UserRow;
  readonly accounts: readonly AccountRow[];
  readonly usage: readonly UsageRow[];
}

/**
 * Waits until nothing of the user or of any account is held, checking the equation at each look; then the ledger must add up to what the user
 * spent, and have no request twice.
 */
export async function settledBooks(admin: Admin, userId: string, timeoutMs = 30_000): Promise<Books> {
  let broken: unknown;
  const look = async () => {
    const [user, accounts] = await Promise.all([admin.user(userId), admin.accounts()]);
    try {
      expectUserBalanced(user);
      for (const account of accounts) expectAccountBalanced(account);
    } catch (error) {
      broken = error;
      return { user, accounts };
    }
    return user.held === 0 && accounts.every((each) => each.held === 0) && { user, accounts };
  };
  const books = await until(`nothing of ${userId} or any account is held`, look, { timeoutMs });
  if (broken) throw broken;
  const usage = await admin.usage(userId);
  expect(sum(usage.map((row) => row.cost))).toBe(books.user.spent);
  expect(new Set(usage.map((row) => row.request_id)).size).toBe(usage.length);
  return { ...books, usage };
}

/** Waits until no prompt runs or waits anywhere. */
export async function idle(admin: Admin): Promise<void> {
  await until("every slot is free", async () => {
    const workers = await admin.workers();
    const free = workers.every((worker) => worker.available_slots === worker.slots && worker.queue_depth === 0);
    return workers.length > 0 && free;
  });
}

export function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
