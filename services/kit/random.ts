// Randomness, passed in: ids from the system's generator, choices from a source that a test can seed.
import { randomBytes } from "node:crypto";
import { systemClock } from "./clock.ts";

/** A number in [0, 1). */
export type Random = () => number;

export const systemRandom: Random = Math.random;

/**
 * A name that nobody else has, such as req_3f9c…: the time in ms (48 bits) and 72 random bits in base 32, which is URL- and shell-safe. Names sort
 * by when they were made, so that the rows of a store which carry them are added at one end of its trees, and not each on a page of its own.
 */
export function newId(prefix: string): string {
  if (drawn + randomIdBytes > pool.length) {
    pool = randomBytes(poolBytes);
    drawn = 0;
  }
  const bytes = Buffer.allocUnsafe(timeBytes + randomIdBytes);
  bytes.writeUIntBE(systemClock.now(), 0, timeBytes);
  bytes.set(pool.subarray(drawn, (drawn += randomIdBytes)), timeBytes);
  return `${prefix}_${base32(bytes)}`;
}

const timeBytes = 6;
const randomIdBytes = 9;
// Drawn in advance: asking the system's generator costs far more than what is asked for. Each byte is used once.
const poolBytes = randomIdBytes * 256;
let pool: Uint8Array = new Uint8Array(0);
let drawn = 0;

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
