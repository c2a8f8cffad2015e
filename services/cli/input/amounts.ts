// Amounts as people write them → whole numbers, exactly: no floating point on the way.

/** An amount that was written wrongly. The message says what is wrong with it. */
export class WrongInput extends Error {
  override readonly name = "WrongInput";
}

/** The largest number that every language reads exactly. */
const wholeMax = 2n ** 53n - 1n;

/** A decimal such as "1.50" → 150 of its hundredths, if `decimals` is 2. */
export function parseDecimal(text: string, decimals: number): bigint {
  if (/^-\d/.test(text)) throw new WrongInput("an amount cannot be negative");
  const match = /^(\d+)(?:\.(\d+))?$/.exec(text);
  if (!match) throw new WrongInput("expected a decimal number such as 1.50");
  const [, whole = "", fraction = ""] = match;
  if (fraction.length > decimals) throw new WrongInput(`expected at most ${decimals} decimals`);
  const value = BigInt(whole + fraction.padEnd(decimals, "0"));
  if (value > wholeMax) throw new WrongInput("the amount is too large");
  return value;
}

/** Dollars → millionths of a dollar. */
export function parseDollars(text: string): bigint {
  return parseDecimal(text, 6);
}

/** Credits → thousandths of a credit. */
export function parseCredits(text: string): bigint {
  return parseDecimal(text, 3);
}

/** A grant of nothing is a mistake. */
export function parsePositive(parse: (text: string) => bigint): (text: string) => bigint {
  return (text) => {
    const value = parse(text);
    if (value === 0n) throw new WrongInput("expected more than 0");
    return value;
  };
}

/** A whole number from 0. */
export function parseWhole(text: string): bigint {
  return parseDecimal(text, 0);
}
