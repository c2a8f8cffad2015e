// Whole answers that a repeated Idempotency-Key gets again, as far as memory allows.
import { LRUCache } from "lru-cache";

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
  const name = (userId: string, key: string) => `${userId}\n${key}`;
  return {
    get: (userId, key) => answers.get(name(userId, key)),
    set: (userId, key, body) => {
      if (answersMax > 0) answers.set(name(userId, key), body);
    },
  };
}
