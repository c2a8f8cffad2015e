// Idempotency-Key: what it says, and the whole answers that a repeated one gets again, as far as memory allows.
import { createHash } from "node:crypto";
import type { FastifyRequest } from "fastify";
import { LRUCache } from "lru-cache";
import { ParameterError } from "./parse.ts";

const keyCharsMax = 255;

export function idempotencyKeyOf(header: string | string[] | undefined): string | undefined {
  if (header === undefined || header === "") return undefined;
  if (typeof header === "string" && header.length <= keyCharsMax) return header;
  throw new ParameterError(`The Idempotency-Key has at most ${keyCharsMax} characters.`);
}

export interface Idempotency {
  readonly key: string;
  /** The same for requests to one route that say the same in the same order, however they are spaced. */
  readonly bodyHash: string;
}

/** What a request's Idempotency-Key says, where it has one. */
export function idempotencyOf({ headers, routeOptions, body }: FastifyRequest): Idempotency | undefined {
  const key = idempotencyKeyOf(headers["idempotency-key"]);
  return key === undefined ? undefined : { key, bodyHash: bodyHashOf(routeOptions.url ?? "", body) };
}

export function bodyHashOf(route: string, body: unknown): string {
  return createHash("sha256")
    .update(`${route}\n${JSON.stringify(body)}`)
    .digest("hex");
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
