// Where a page of the usage ledger ended: stable while entries come and go, and the same for every implementation.
import { DrawbridgeError } from "../kit/errors.ts";

/** The place of an entry in the ledger's order. */
export interface UsagePosition {
  readonly at: number;
  readonly requestId: string;
  readonly userId: string;
}

export function pageToken(position: UsagePosition): string {
  const { at, requestId, userId } = position;
  return Buffer.from(JSON.stringify([at, requestId, userId])).toString("base64url");
}

export function pagePosition(token: string): UsagePosition {
  try {
    const [at, requestId, userId, ...rest] = JSON.parse(Buffer.from(token, "base64url").toString()) as unknown[];
    if (Number.isSafeInteger(at) && typeof requestId === "string" && typeof userId === "string" && rest.length === 0) {
      return { at: at as number, requestId, userId };
    }
  } catch {
    // Not a token of ours: said below.
  }
  throw new DrawbridgeError("INVALID_ARGUMENT", "The page token is not one that this server gave.");
}

/** Text by its UTF-8 bytes, as stores order it: by code points, without making the bytes. */
export function compareBytes(a: string, b: string): number {
  const shorter = Math.min(a.length, b.length);
  for (let index = 0; index < shorter; index += 1) {
    const difference = rank(a.charCodeAt(index)) - rank(b.charCodeAt(index));
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/** Surrogates stand for code points beyond all that a single unit can name. */
function rank(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x1_0000 : unit;
}

/** The ledger's order, oldest first. */
export function comparePositions(a: UsagePosition, b: UsagePosition): number {
  return a.at - b.at || compareBytes(a.requestId, b.requestId) || compareBytes(a.userId, b.userId);
}
