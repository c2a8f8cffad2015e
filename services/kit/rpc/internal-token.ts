// The shared token that every internal call carries.
import { createHash, timingSafeEqual } from "node:crypto";
import { DrawbridgeError } from "../errors.ts";
import type { Authorize } from "./interceptors.ts";

/** The token of `Authorization: Bearer TOKEN`; undefined: there is none. */
export function bearerToken(authorization: string | null | undefined): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
}

/** Compares without telling by its time how much was right. */
export function sameSecret(given: string, expected: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}

/** Throws UNAUTHENTICATED unless the header carries the internal token. */
export function checkInternalToken(authorization: string | null | undefined, token: string): void {
  const given = bearerToken(authorization);
  if (given === undefined || !sameSecret(given, token)) {
    throw new DrawbridgeError(
      "UNAUTHENTICATED",
      "Internal services want the internal token as bearer token: set DRAWBRIDGE_INTERNAL_TOKEN to the same value everywhere.",
    );
  }
}

export function internalTokenOnly(token: string): Authorize {
  return ({ header }) => checkInternalToken(header.get("authorization"), token);
}
