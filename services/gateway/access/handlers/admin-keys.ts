// Admin keys.
import type { ServiceImpl } from "@connectrpc/connect";
import type { AccessService } from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../../kit/errors.ts";
import { newId } from "../../../kit/random.ts";
import { hashKey, makeKey } from "../keys.ts";
import type { AccessHandlerOptions } from "./common.ts";

export function adminKeyHandlers({ state: { access }, clock, pepper }: AccessHandlerOptions) {
  return {
    async createAdminKey({ name, role }) {
      const { secret, prefix } = makeKey("admin");
      const key = { id: newId("admin"), name, prefix, hash: hashKey(secret, pepper), role };
      return { key: await access.addAdminKey(key, clock.now()), secret };
    },

    listAdminKeys: async () => ({ keys: await access.listAdminKeys() }),

    async revokeAdminKey({ id }) {
      if (await access.revokeAdminKey(id, clock.now())) return {};
      const message = `"${id}" is the last admin key with the role admin. Create another one first.`;
      throw new DrawbridgeError("PERMISSION_DENIED", message);
    },
  } satisfies Partial<ServiceImpl<typeof AccessService>>;
}
