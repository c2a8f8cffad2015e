// AccessService: wire to store and back. Users, keys and codes have files of their own.
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { AccessService } from "#gen/drawbridge/v1/access_service";
import { createChannelHandlers } from "../channels/manage/handlers.ts";
import { codeHandlers } from "./handlers/codes.ts";
import { adminKeyHandlers } from "./handlers/admin-keys.ts";
import { type AccessHandlerOptions, pageSizeDefault, required } from "./handlers/common.ts";
import { keyHandlers } from "./handlers/keys.ts";
import { userHandlers } from "./handlers/users.ts";

export function createAccessHandlers(options: AccessHandlerOptions): ServiceImpl<typeof AccessService> {
  return {
    ...userHandlers(options),
    ...keyHandlers(options),
    ...adminKeyHandlers(options),
    ...codeHandlers(options),
    ...listHandlers(options),
    ...createChannelHandlers(options.channels),
  };
}

function listHandlers({ state: { access, ledger } }: AccessHandlerOptions) {
  return {
    listTiers: async () => ({ tiers: await access.listTiers() }),

    async setTier({ tier }) {
      await access.setTier(required(tier, "tier"));
      return { tier };
    },

    listPrices: async () => ({ prices: await access.listPrices() }),

    async setPrice({ price }) {
      await access.setPrice(required(price, "price"));
      return { price };
    },

    async listUsage(request) {
      return await ledger.usage({
        userId: request.userId || undefined,
        keyId: request.keyId || undefined,
        model: request.model || undefined,
        since: request.since && timestampMs(request.since),
        until: request.until && timestampMs(request.until),
        pageToken: request.pageToken || undefined,
        limit: request.pageSize || pageSizeDefault,
      });
    },
  } satisfies Partial<ServiceImpl<typeof AccessService>>;
}
