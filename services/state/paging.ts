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

/** Text by its UTF-8 bytes, as stores order it. */
export function compareBytes(a: string, b: string): number {
  return a === b ? 0 : Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** The ledger's order, oldest first. */
export function comparePositions(a: UsagePosition, b: UsagePosition): number {
  return a.at - b.at || compareBytes(a.requestId, b.requestId) || compareBytes(a.userId, b.userId);
}
