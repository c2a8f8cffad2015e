// API keys: made from the system's randomness, shown once, stored as a keyed hash.
import { createHmac, randomBytes } from "node:crypto";

export interface KeySecret {
  /** The key itself. */
  readonly secret: string;
  /** Its first characters, by which a person tells keys apart. */
  readonly prefix: string;
}

const prefixChars = 11;
const adminPrefix = "sk-admin-";

/** 256 random bits, in the form that OpenAI's keys have. */
export function makeKey(kind: "user" | "admin"): KeySecret {
  const secret = `${kind === "admin" ? adminPrefix : "sk-"}${randomBytes(32).toString("base64url")}`;
  return { secret, prefix: prefixOf(secret) };
}

export function prefixOf(secret: string): string {
  // An admin key begins with more that is the same for all.
  return secret.slice(0, secret.startsWith(adminPrefix) ? adminPrefix.length + prefixChars - 3 : prefixChars);
}

/** 160 random bits, for people to type: groups of eight letters and digits that are not mistaken for each other. */
export function makeCode(): KeySecret {
  const letters = [...randomBytes(32)].map((byte) => codeAlphabet[byte % codeAlphabet.length]).join("");
  const secret = `DB-${letters.match(/.{8}/g)?.join("-")}`;
  return { secret, prefix: secret.slice(0, prefixChars) };
}

/** 32 of them, so that a byte falls on each equally often. */
const codeAlphabet = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/** As `hashKey`; a code may be typed in small letters. */
export function hashCode(code: string, pepper: string): string {
  return createHmac("sha256", `drawbridge code ${pepper}`).update(code.trim().toUpperCase()).digest("hex");
}

/** What is stored and looked up: a lookup by this digest compares no secret character by character. */
export function hashKey(secret: string, pepper: string): string {
  return createHmac("sha256", `drawbridge key ${pepper}`).update(secret).digest("hex");
}
