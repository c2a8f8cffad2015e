// Where conversations went, so that their next turn finds the provider's cache warm. A hint only: it is forgotten when memory or time says so,
// and a channel that cannot take the turn is passed over.
import { createHash } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { JsonObject } from "./upstream/json.ts";

export interface Place {
  readonly channelId: string;
  readonly keyName: string;
}

export interface Affinity {
  /** Where the conversation that this request continues went. */
  find(conversation: Conversation): Place | undefined;
  remember(key: string | undefined, place: Place): void;
}

export interface Conversation {
  /** Under which name the answer's place is remembered; undefined: the request belongs to no conversation. */
  readonly key: string | undefined;
  /** Whether it goes on: a first turn goes where weights say. */
  readonly continues: boolean;
  /** Whether it names a stored response, which only the channel that made it knows. */
  readonly bound: boolean;
}

const placesMax = 20_000;
const ttlMs = 3_600_000;

export function createAffinity(): Affinity {
  const places = new LRUCache<string, Place>({ max: placesMax, ttl: ttlMs });
  return {
    find: ({ key, continues }) => (continues && key !== undefined ? places.get(key) : undefined),
    remember: (key, place) => void (key !== undefined && places.set(key, place)),
  };
}

/** Names a conversation by its user, its model and how it began, or by what the client calls it. */
export function conversationOf(userId: string, body: JsonObject): Conversation {
  const { model, messages, prompt_cache_key: named, previous_response_id: previous } = body;
  if (typeof previous === "string") return { key: responseKey(userId, previous), continues: true, bound: true };
  if (typeof named === "string" && named !== "")
    return { key: digest([userId, model, named]), continues: true, bound: false };
  if (!Array.isArray(messages)) return { key: undefined, continues: false, bound: false };
  const roles = messages.map((message: unknown) => (message as { role?: unknown } | null)?.role);
  const firstUser = roles.indexOf("user");
  const opening = messages.slice(0, firstUser === -1 ? 1 : firstUser + 1);
  return { key: digest([userId, model, opening]), continues: roles.includes("assistant"), bound: false };
}

/** A stored response lives at the upstream that made it. */
export function responseKey(userId: string, responseId: string): string {
  return digest([userId, "response", responseId]);
}

function digest(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("base64url");
}
