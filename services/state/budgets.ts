// Budgets with calendar windows: pure arithmetic that every implementation of the store shares. What a budget counts begins anew at the edge of its
// window, in UTC. A request counts in the window in which it was let in, whenever it ends, so that nothing of an earlier one is carried over.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type Budget, BudgetSchema, BudgetWindow } from "#gen/drawbridge/v1/access_service";

/** What may be spent in which window. */
export interface BudgetTerms {
  readonly micros: number;
  readonly window: BudgetWindow;
}

/** What was spent and is held of whom a budget is. */
export interface Spending {
  /** In all. */
  readonly spent: number;
  readonly held: number;
  /** The period that is counted, as `periodAt` names it; "": none was. */
  readonly period: string;
  readonly periodSpent: number;
  readonly periodHeld: number;
}

/** What counts against a budget at a time. */
export interface Counted {
  /** "" where everything counts, for ever. */
  readonly period: string;
  readonly spent: number;
  readonly held: number;
}

const dayMs = 86_400_000;

/** When the window that `now` is in began, in ms. 0: it is one without an end. */
export function windowStart(window: BudgetWindow, now: number): number {
  const at = new Date(now);
  const midnight = Math.floor(now / dayMs) * dayMs;
  switch (window) {
    case BudgetWindow.DAY:
      return midnight;
    case BudgetWindow.WEEK:
      // Days since Monday.
      return midnight - ((at.getUTCDay() + 6) % 7) * dayMs;
    case BudgetWindow.MONTH:
      return Date.UTC(at.getUTCFullYear(), at.getUTCMonth(), 1);
    default:
      return 0;
  }
}

/** When the window that `now` is in ends, in ms; undefined: never. */
export function windowEnd(window: BudgetWindow, now: number): number | undefined {
  const start = windowStart(window, now);
  switch (window) {
    case BudgetWindow.DAY:
      return start + dayMs;
    case BudgetWindow.WEEK:
      return start + 7 * dayMs;
    case BudgetWindow.MONTH: {
      const first = new Date(start);
      return Date.UTC(first.getUTCFullYear(), first.getUTCMonth() + 1, 1);
    }
    default:
      return undefined;
  }
}

/** Whether a window ever ends. */
function isWindowed(window: BudgetWindow): boolean {
  return window === BudgetWindow.DAY || window === BudgetWindow.WEEK || window === BudgetWindow.MONTH;
}

/** Names a window and its beginning; "" for one without an end. */
export function periodAt(window: BudgetWindow, now: number): string {
  return isWindowed(window) ? `${window}:${windowStart(window, now)}` : "";
}

/** What counts against a budget now: what was counted in its present period, or everything. */
export function countedAt(window: BudgetWindow, spending: Spending, now: number): Counted {
  const period = periodAt(window, now);
  if (period === "") return { period, spent: spending.spent, held: spending.held };
  const [countedWindow, countedStart] = spending.period.split(":");
  // A clock that is behind must not go back to a period that is over.
  if (Number(countedWindow) === window && Number(countedStart) >= windowStart(window, now)) {
    return { period: spending.period, spent: spending.periodSpent, held: spending.periodHeld };
  }
  return { period, spent: 0, held: 0 };
}

/** What was agreed when a request was let in. */
export interface HeldBudget {
  /** undefined: there was no budget. */
  readonly budget: number | undefined;
  readonly period: string;
}

/**
 * The most that a request may be charged by a budget: its hold and what is left beside it. What was held may always be charged, even where the
 * budget became smaller meanwhile, or its period is over. undefined: as much as it costs.
 */
export function budgetRoom({ budget, period }: HeldBudget, held: number, spending: Spending): number | undefined {
  if (budget === undefined) return undefined;
  if (period === "") return Math.max(held, budget - spending.spent - spending.held + held);
  if (period !== spending.period) return held;
  return Math.max(held, budget - spending.periodSpent - spending.periodHeld + held);
}

/** A budget as the contract tells it, as of the last request that it let in. */
export function budgetMessage({ micros, window }: BudgetTerms, spending: Spending): Budget {
  const kind = window || BudgetWindow.TOTAL;
  const terms = { micros: BigInt(micros), window: kind };
  if (!isWindowed(kind)) {
    return create(BudgetSchema, {
      ...terms,
      spentMicros: BigInt(spending.spent),
      heldMicros: BigInt(spending.held),
    });
  }
  const [countedWindow, countedStart] = spending.period.split(":");
  if (Number(countedWindow) !== kind) return create(BudgetSchema, terms);
  return create(BudgetSchema, {
    ...terms,
    spentMicros: BigInt(spending.periodSpent),
    heldMicros: BigInt(spending.periodHeld),
    resetsAt: timestampFromMs(windowEnd(kind, Number(countedStart)) ?? 0),
  });
}

/** A budget that the store gave, as it is now: a window that has ended since counts nothing. */
export function budgetNow(budget: Budget | undefined, now: number): Budget | undefined {
  if (!budget) return undefined;
  const end = windowEnd(budget.window, now);
  if (end === undefined || (budget.resetsAt && timestampMs(budget.resetsAt) >= end)) return budget;
  return create(BudgetSchema, { micros: budget.micros, window: budget.window, resetsAt: timestampFromMs(end) });
}
