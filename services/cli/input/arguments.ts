// The command's argument parsers: what is wrong with an argument is told as wrong usage.
import { InvalidArgumentError } from "commander";
import { AdminRole, BudgetWindow } from "#gen/drawbridge/v1/access_service";
import { Priority } from "#gen/drawbridge/v1/scheduler_service";
import type { UsageFormat } from "../../client/usage-export.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import { parseCredits, parseDollars, parsePositive, parseWhole, WrongInput } from "./amounts.ts";
import { parseMoment, parseSpan } from "./times.ts";

function argument<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      if (error instanceof WrongInput) throw new InvalidArgumentError(`${error.message}.`);
      throw error;
    }
  };
}

export const dollars = argument(parseDollars);
export const dollarsToGrant = argument(parsePositive(parseDollars));
export const creditsToGrant = argument(parsePositive(parseCredits));
export const whole = argument(parseWhole);
export const wholePositive = argument(parsePositive(parseWhole));
export const span = argument(parseSpan);

export function momentBefore(now: () => number): (text: string) => number {
  return argument((text) => parseMoment(text, now(), "before"));
}

export function momentAfter(now: () => number): (text: string) => number {
  return argument((text) => parseMoment(text, now(), "after"));
}

/** "a,b" → a and b; a repeated option adds to them. */
export function list(text: string, previous: readonly string[] = []): readonly string[] {
  const items = text.split(",").map((item) => item.trim());
  if (items.includes("")) throw new InvalidArgumentError("expected names with commas between them, such as a,b.");
  return [...previous, ...items];
}

/** A ratio such as 0.5 → thousandths. */
export const ratio = argument(parseCredits);

const windows = {
  total: BudgetWindow.TOTAL,
  day: BudgetWindow.DAY,
  week: BudgetWindow.WEEK,
  month: BudgetWindow.MONTH,
} as const;

const priorities = { low: Priority.LOW, normal: Priority.NORMAL, high: Priority.HIGH } as const;

const roles = { "read-only": AdminRole.READ_ONLY, operator: AdminRole.OPERATOR, admin: AdminRole.ADMIN } as const;

/** One of some words → what it stands for. */
function word<T>(words: Readonly<Record<string, T>>): (text: string) => T {
  return (text) => {
    const found = words[text];
    if (found !== undefined) return found;
    throw new InvalidArgumentError(`expected one of ${Object.keys(words).join(", ")}.`);
  };
}

export const budgetWindow = word<BudgetWindow>(windows);
export const priority = word<Priority>(priorities);
export const usageFormat = word<UsageFormat>({ csv: "csv", jsonl: "jsonl" });
export const adminRole = word<AdminRole>(roles);

/** A new value, or "none" for none. */
export function orNone<T>(parse: (text: string) => T): (text: string) => T | "none" {
  return (text) => (text === "none" ? "none" : parse(text));
}

/** For an update that names nothing. */
export function nothingNamed(): DrawbridgeError {
  return new DrawbridgeError("INVALID_ARGUMENT", "Nothing to change is named. --help shows what can be.");
}

/** "a,b=c" → a is a, and b is c at the other end; a repeated option adds to them. */
export function modelNames(text: string, previous: Readonly<Record<string, string>> = {}) {
  const pairs = list(text).map((item) => {
    const at = item.indexOf("=");
    const [name, own] = at === -1 ? [item, item] : [item.slice(0, at), item.slice(at + 1)];
    if (!name || !own) throw new InvalidArgumentError("expected names such as a,b=c.");
    return [name, own] as const;
  });
  return { ...previous, ...Object.fromEntries(pairs) };
}

/** A whole number, negative ones too. */
export function wholeNumber(text: string): number {
  if (!/^-?\d{1,9}$/.test(text)) throw new InvalidArgumentError("expected a whole number such as 10 or -10.");
  return Number(text);
}
