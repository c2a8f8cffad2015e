// Responses that can be asked for again, and continued: in this gateway's memory, of bounded size, for a time.
import type { Message } from "#gen/drawbridge/v1/prompt";
import { LRUCache } from "lru-cache";

export interface StoredResponse {
  /** As it was answered. */
  readonly body: object;
  /** The conversation up to and with its answer, without instructions. */
  readonly conversation: readonly Message[];
}

export interface ResponseStore {
  get(userId: string, id: string): StoredResponse | undefined;
  set(userId: string, id: string, response: StoredResponse): void;
  /** Whether there was one. */
  remove(userId: string, id: string): boolean;
}

export interface ResponseStoreOptions {
  /** 0: none is stored. */
  readonly responsesMax: number;
  readonly ttlMs: number;
}

/** The most characters and bytes of all stored responses together, and of one with its conversation. */
const totalSizeMax = 128 << 20;
const sizeMax = 16 << 20;

export function createResponseStore({ responsesMax, ttlMs }: ResponseStoreOptions): ResponseStore {
  const responses = new LRUCache<string, StoredResponse>({
    max: Math.max(1, responsesMax),
    ttl: ttlMs,
    maxSize: totalSizeMax,
    maxEntrySize: sizeMax,
    sizeCalculation: sizeOf,
  });
  // No user id has a line break in it.
  const name = (userId: string, id: string) => `${userId}\n${id}`;
  return {
    get: (userId, id) => responses.get(name(userId, id)),
    set(userId, id, response) {
      if (responsesMax > 0) responses.set(name(userId, id), response);
    },
    remove: (userId, id) => responses.delete(name(userId, id)),
  };
}

/** The body repeats the answer, the instructions and the tools. */
function sizeOf({ body, conversation }: StoredResponse): number {
  return conversation.reduce((size, message) => size + messageSize(message), JSON.stringify(body).length + 1);
}

function messageSize({ parts, toolCalls }: Message): number {
  let size = 64;
  for (const { part } of parts) size += part.case === "image" ? part.value.data.length : (part.value?.length ?? 0);
  for (const { name, argumentsJson } of toolCalls) size += name.length + argumentsJson.length;
  return size;
}
