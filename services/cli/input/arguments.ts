// The command's argument parsers: what is wrong with an argument is told as wrong usage.
import { InvalidArgumentError } from "commander";
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
