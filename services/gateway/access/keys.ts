// API keys: made from the system's randomness, shown once, stored as a keyed hash.
import { createHmac, randomBytes } from "node:crypto";

export interface KeySecret {
  /** The key itself. */
  readonly secret: string;
  /** Its first characters, by which a person tells keys apart. */
  readonly prefix: string;
}

const prefixChars = 11;

/** 256 random bits, in the form that OpenAI's keys have. */
export function makeKey(kind: "user" | "admin"): KeySecret {
  const secret = `${kind === "admin" ? "sk-admin-" : "sk-"}${randomBytes(32).toString("base64url")}`;
  return { secret, prefix: prefixOf(secret) };
}

export function prefixOf(secret: string): string {
  return secret.slice(0, prefixChars);
}

/** What is stored and looked up: a lookup by this digest compares no secret character by character. */
export function hashKey(secret: string, pepper: string): string {
  return createHmac("sha256", `drawbridge key ${pepper}`).update(secret).digest("hex");
}
