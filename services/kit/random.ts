// Randomness, passed in: ids from the system's generator, choices from a source that a test can seed.
import { randomBytes } from "node:crypto";

/** A number in [0, 1). */
export type Random = () => number;

export const systemRandom: Random = Math.random;

/** A name that nobody else has, such as req_3f9c…: 120 random bits in base 32, which is URL- and shell-safe. */
export function newId(prefix: string): string {
  return `${prefix}_${base32(randomBytes(15))}`;
}

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";

function base32(bytes: Uint8Array): string {
  let text = "";
  let bits = 0;
  let value = 0;
  for (const byte of bytes) {
    value = (value << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += alphabet[(value >>> bits) & 31];
    }
  }
  return text;
}

/** Exponential back-off with full jitter: uniform in [cap/2, cap], where cap doubles from `baseMs` to `maxMs`. */
export function backoffMs(failures: number, baseMs: number, maxMs: number, random: Random): number {
  const cap = Math.min(maxMs, baseMs * 2 ** Math.min(30, Math.max(0, failures - 1)));
  return cap / 2 + (random() * cap) / 2;
}
