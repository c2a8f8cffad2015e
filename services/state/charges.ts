// Who is charged how much, as pure arithmetic that every implementation of the store shares.
import type { Outcome } from "#gen/drawbridge/v1/usage";

/**
 * What an account pays for an attempt, in thousandths of a credit: what the agent reported, else what the lease reserved if there was content,
 * else nothing; never more than is reserved and available.
 */
export function leaseCharge(outcome: Outcome, held: number, available: number): number {
  const due = outcome.millicredits === undefined ? (outcome.content ? held : 0) : Number(outcome.millicredits);
  return Math.min(due, held + available);
}

/**
 * What a user pays, in millionths of a dollar: the cost, as far as the hold, the rest of the quota and the budgets of user and key go (`budgetRoom`;
 * undefined: no bound).
 */
export function holdCharge(
  cost: number,
  held: number,
  available: number,
  ...rooms: readonly (number | undefined)[]
): number {
  return Math.min(cost, held + available, ...rooms.map((room) => room ?? Number.MAX_SAFE_INTEGER));
}
