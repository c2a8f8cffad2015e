// Amounts, times and texts as people read them.

/** Millionths → $1.50: two decimals at least, six at most. */
export function dollarsText(micros: bigint | number): string {
  return `$${decimalText(BigInt(micros), 6, 2)}`;
}

/** Thousandths → 12.5: no decimals that say nothing. */
export function creditsText(millicredits: bigint | number): string {
  return decimalText(BigInt(millicredits), 3, 0);
}

function decimalText(value: bigint, decimals: number, decimalsMin: number): string {
  const digits = value.toString().padStart(decimals + 1, "0");
  const whole = digits.slice(0, -decimals);
  let fraction = digits.slice(-decimals);
  while (fraction.length > decimalsMin && fraction.endsWith("0")) fraction = fraction.slice(0, -1);
  return fraction === "" ? whole : `${whole}.${fraction}`;
}

const units: readonly (readonly [string, number])[] = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1_000],
];

/** "3m ago", "in 29d", "now": the largest unit, rounded down. */
export function relativeText(at: number, now: number): string {
  const distance = Math.abs(at - now);
  const unit = units.find(([, ms]) => distance >= ms);
  if (!unit) return "now";
  const span = `${Math.floor(distance / unit[1])}${unit[0]}`;
  return at < now ? `${span} ago` : `in ${span}`;
}

/** 2026-01-31 18:00:05, where the reader is. */
export function localTimeText(at: number): string {
  const date = new Date(at);
  const two = (value: number) => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** A text on one line that cannot steer a terminal: names and messages come from others. */
export function plainText(text: string): string {
  return text.replace(/\p{Cc}+/gu, " ");
}
