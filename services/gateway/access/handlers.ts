// AccessService: wire to store and back.
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { AccessService, CreateApiKeyRequest, User } from "#gen/drawbridge/v1/access_service";
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import { newId } from "../../kit/random.ts";
import type { State } from "../../state/state.ts";
import { defaultTierName } from "../config.ts";
import { type ChannelHandlerOptions, createChannelHandlers } from "../channels/handlers.ts";
import { isNetwork } from "./addresses.ts";
import { hashKey, makeKey } from "./keys.ts";

export interface AccessHandlerOptions {
  readonly state: Pick<State, "access" | "ledger">;
  readonly channels: ChannelHandlerOptions;
  readonly clock: Clock;
  readonly pepper: string;
}

const pageSizeDefault = 1_000;

export function createAccessHandlers(options: AccessHandlerOptions): ServiceImpl<typeof AccessService> {
  return {
    ...userHandlers(options),
    ...keyHandlers(options),
    ...listHandlers(options),
    ...createChannelHandlers(options.channels),
  };
}

function userHandlers({ state: { access }, clock }: AccessHandlerOptions) {
  return {
    async createUser(request) {
      const tier = request.tier || defaultTierName;
      if (!(await access.listTiers()).some((each) => each.name === tier)) {
        throw new DrawbridgeError("NOT_FOUND", `There is no tier "${tier}".`);
      }
      const user = { id: request.id, tier, quotaMicros: Number(request.quotaMicros) };
      return { user: await access.createUser(user, clock.now()) };
    },

    async getUser({ id }) {
      return { user: found(await access.getUser(id), id) };
    },

    async listUsers(request) {
      const size = request.pageSize || pageSizeDefault;
      const users = await access.listUsers(request.pageToken, size + 1);
      return { users: users.slice(0, size), nextPageToken: nextToken(users, size) };
    },

    async grantQuota(request) {
      const grantId = request.grantId || newId("grant");
      return { user: await access.grantQuota(request.userId, grantId, Number(request.quotaMicros), clock.now()) };
    },
  } satisfies Partial<ServiceImpl<typeof AccessService>>;
}

function keyHandlers({ state: { access }, clock, pepper }: AccessHandlerOptions) {
  return {
    async createApiKey(request) {
      checkKey(request, clock.now());
      const { secret, prefix } = makeKey("user");
      const key = await access.createKey(
        {
          id: newId("key"),
          userId: request.userId,
          name: request.name,
          prefix,
          hash: hashKey(secret, pepper),
          models: request.models,
          allowedAddresses: request.allowedAddresses,
          budgetMicros: request.budgetMicros === undefined ? undefined : Number(request.budgetMicros),
          expiresAt: request.expiresAt && timestampMs(request.expiresAt),
        },
        clock.now(),
      );
      return { key, secret };
    },

    async listApiKeys(request) {
      const size = request.pageSize || pageSizeDefault;
      const keys = await access.listKeys(request.userId || undefined, request.pageToken, size + 1);
      return { keys: keys.slice(0, size), nextPageToken: nextToken(keys, size) };
    },

    async revokeApiKey({ id }) {
      return { key: await access.revokeKey(id, clock.now()) };
    },
  } satisfies Partial<ServiceImpl<typeof AccessService>>;
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

function checkKey(request: CreateApiKeyRequest, now: number): void {
  const wrong = request.allowedAddresses.find((network) => !isNetwork(network));
  if (wrong !== undefined) {
    const message = `allowed_addresses: "${wrong}" is no address or network such as 10.0.0.0/8.`;
    throw new DrawbridgeError("INVALID_ARGUMENT", message);
  }
  if (request.expiresAt && timestampMs(request.expiresAt) <= now) {
    throw new DrawbridgeError("INVALID_ARGUMENT", "expires_at: this time has passed.");
  }
}

function found(user: User | undefined, id: string): User {
  if (!user) throw new DrawbridgeError("NOT_FOUND", `There is no user "${id}".`);
  return user;
}

function required<T>(value: T | undefined, field: string): T {
  if (value === undefined) throw new DrawbridgeError("INVALID_ARGUMENT", `${field}: a value is required.`);
  return value;
}

function nextToken(items: readonly { readonly id: string }[], size: number): string {
  return items.length > size ? (items[size - 1]?.id ?? "") : "";
}
