// Idempotency-Key: what it says, and the whole answers that a repeated one gets again, as far as memory allows.
import { createHash } from "node:crypto";
import { LRUCache } from "lru-cache";
import { ParameterError } from "./parse.ts";

const keyCharsMax = 255;

export function idempotencyKeyOf(header: string | string[] | undefined): string | undefined {
  if (header === undefined || header === "") return undefined;
  if (typeof header === "string" && header.length <= keyCharsMax) return header;
  throw new ParameterError(`The Idempotency-Key has at most ${keyCharsMax} characters.`);
}

/** The same for bodies that say the same in the same order, however they are spaced. */
export function bodyHashOf(body: unknown): string {
  return createHash("sha256").update(JSON.stringify(body)).digest("hex");
}

export interface AnswerCache {
  get(userId: string, key: string): string | undefined;
  set(userId: string, key: string, body: string): void;
}

export interface AnswerCacheOptions {
  readonly answersMax: number;
  readonly ttlMs: number;
}

/** The most characters of all answers together, and of one. */
const totalCharsMax = 64 << 20;
const answerCharsMax = 1 << 20;

export function createAnswerCache({ answersMax, ttlMs }: AnswerCacheOptions): AnswerCache {
  const answers = new LRUCache<string, string>({
    max: Math.max(1, answersMax),
    ttl: ttlMs,
    maxSize: totalCharsMax,
    maxEntrySize: answerCharsMax,
    sizeCalculation: (body) => body.length + 1,
  });
  // No user id has a line break in it.
  const name = (userId: string, key: string) => `${userId}\n${key}`;
  return {
    get: (userId, key) => answers.get(name(userId, key)),
    set(userId, key, body) {
      if (answersMax > 0) answers.set(name(userId, key), body);
    },
  };
}
