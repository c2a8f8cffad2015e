import { timestampMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { BudgetWindow } from "#gen/drawbridge/v1/access_service";
import { budgetMessage, budgetNow, budgetRoom, windowEnd, windowStart } from "../../../services/state/budgets.ts";

const at = (text: string) => Date.parse(text);
const spending = { spent: 50, held: 5, period: "", periodSpent: 0, periodHeld: 0 };

describe("a window", () => {
  test.each([
    [BudgetWindow.DAY, "2028-02-29T13:00:00.000Z", "2028-02-29T00:00:00.000Z", "2028-03-01T00:00:00.000Z"],
    [BudgetWindow.WEEK, "2026-01-04T23:59:59.999Z", "2025-12-29T00:00:00.000Z", "2026-01-05T00:00:00.000Z"],
    [BudgetWindow.WEEK, "2026-01-05T00:00:00.000Z", "2026-01-05T00:00:00.000Z", "2026-01-12T00:00:00.000Z"],
    [BudgetWindow.MONTH, "2026-12-31T23:59:59.999Z", "2026-12-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z"],
    [BudgetWindow.MONTH, "2028-02-29T00:00:00.000Z", "2028-02-01T00:00:00.000Z", "2028-03-01T00:00:00.000Z"],
  ])("%s at %s begins at %s and ends at %s", (window, now, start, end) => {
    expect(windowStart(window, at(now))).toBe(at(start));
    expect(windowEnd(window, at(now))).toBe(at(end));
  });

  test("of all time never ends", () => {
    for (const window of [BudgetWindow.TOTAL, BudgetWindow.UNSPECIFIED]) {
      expect([windowStart(window, at("2026-01-01")), windowEnd(window, at("2026-01-01"))]).toEqual([0, undefined]);
    }
  });
});

describe("room", () => {
  test("is at least the hold, whatever became of the budget", () => {
    expect(budgetRoom({ budget: undefined, period: "" }, 9, spending)).toBeUndefined();
    expect(budgetRoom({ budget: 100, period: "" }, 5, spending)).toBe(50);
    expect(budgetRoom({ budget: 10, period: "" }, 5, spending)).toBe(5);
    expect(budgetRoom({ budget: 100, period: "2:1" }, 5, { ...spending, period: "2:2" })).toBe(5);
    const same = { ...spending, period: "2:1", periodSpent: 20, periodHeld: 5 };
    expect(budgetRoom({ budget: 100, period: "2:1" }, 5, same)).toBe(80);
  });
});

test("what is told of a budget is of the present window", () => {
  const day = at("2026-01-01");
  const terms = { micros: 100, window: BudgetWindow.DAY };
  const stored = budgetMessage(terms, { ...spending, period: `2:${day}`, periodSpent: 20, periodHeld: 5 });
  expect(budgetNow(stored, day + 1)).toMatchObject({ spentMicros: 20n, heldMicros: 5n });
  const next = budgetNow(stored, day + 86_400_000);
  expect(next).toMatchObject({ micros: 100n, spentMicros: 0n, heldMicros: 0n });
  expect(next?.resetsAt && timestampMs(next.resetsAt)).toBe(at("2026-01-03"));
  const all = budgetMessage({ micros: 100, window: BudgetWindow.TOTAL }, spending);
  expect(budgetNow(all, day)).toMatchObject({ spentMicros: 50n, heldMicros: 5n });
});
