// Who may administrate: a bearer of an admin key whose role suffices.
import type { AdminKey, AdminRole } from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import { bearerToken } from "../../kit/rpc/internal-token.ts";
import type { AccessStore } from "../../state/state.ts";
import { hashKey } from "./keys.ts";
import { roleName } from "./roles.ts";

export interface AdminAuthorization {
  readonly access: Pick<AccessStore, "findAdminKey" | "findKey">;
  readonly authorization: string | undefined;
  readonly pepper: string;
  /** The least role that may do it. */
  readonly role: AdminRole;
}

/** Throws unless the header carries an admin key of at least this role: UNAUTHENTICATED, or PERMISSION_DENIED for a key that is no such one. */
export async function authorizeAdmin({ access, authorization, pepper, role }: AdminAuthorization): Promise<AdminKey> {
  const secret = bearerToken(authorization);
  if (secret === undefined) {
    throw new DrawbridgeError("UNAUTHENTICATED", "This call wants an admin key: set DRAWBRIDGE_ADMIN_KEY.");
  }
  const hash = hashKey(secret, pepper);
  const key = await access.findAdminKey(hash);
  if (key) {
    if (key.role >= role) return key;
    const message = `This admin key has the role ${roleName(key.role)}; the call wants ${roleName(role)}.`;
    throw new DrawbridgeError("PERMISSION_DENIED", message);
  }
  if (await access.findKey(hash)) {
    throw new DrawbridgeError("PERMISSION_DENIED", "This is an API key; the call wants an admin key.");
  }
  throw new DrawbridgeError("UNAUTHENTICATED", "The admin key is not known.");
}
