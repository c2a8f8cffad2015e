// Who may administrate: a bearer of an admin key.
import { DrawbridgeError } from "../../kit/errors.ts";
import { bearerToken } from "../../kit/rpc/internal-token.ts";
import type { AccessStore } from "../../state/state.ts";
import { hashKey } from "./keys.ts";

/** Throws unless the header carries an admin key: UNAUTHENTICATED, or PERMISSION_DENIED for an API key. */
export async function authorizeAdmin(
  access: Pick<AccessStore, "isAdminKey" | "findKey">,
  authorization: string | undefined,
  pepper: string,
): Promise<void> {
  const secret = bearerToken(authorization);
  if (secret === undefined) {
    throw new DrawbridgeError("UNAUTHENTICATED", "This call wants an admin key: set DRAWBRIDGE_ADMIN_KEY.");
  }
  const hash = hashKey(secret, pepper);
  if (await access.isAdminKey(hash)) return;
  if (await access.findKey(hash)) {
    throw new DrawbridgeError("PERMISSION_DENIED", "This is an API key; the call wants an admin key.");
  }
  throw new DrawbridgeError("UNAUTHENTICATED", "The admin key is not known.");
}
