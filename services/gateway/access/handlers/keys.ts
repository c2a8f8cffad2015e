// API keys.
import { clone } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { type AccessService, type ApiKey, ApiKeySchema } from "#gen/drawbridge/v1/access_service";
import { newId } from "../../../kit/random.ts";
import { budgetNow } from "../../../state/budgets.ts";
import { isNetwork } from "../addresses.ts";
import { hashKey, makeKey } from "../keys.ts";
import {
  type AccessHandlerOptions,
  budgetTerms,
  future,
  invalid,
  maskedFields,
  nextToken,
  pageSizeDefault,
  required,
} from "./common.ts";

const graceMaxMs = 365 * 86_400_000;

export function keyHandlers({ state: { access }, clock, pepper }: AccessHandlerOptions) {
  const shown = (key: ApiKey) => keyNow(key, clock.now());
  return {
    async createApiKey(request) {
      checkNetworks(request.allowedAddresses);
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
          budgetWindow: request.budgetWindow,
          limits: request.limits,
          expiresAt: future(request.expiresAt, clock.now()),
        },
        clock.now(),
      );
      return { key: shown(key), secret };
    },

    async listApiKeys(request) {
      const size = request.pageSize || pageSizeDefault;
      const keys = await access.listKeys(request.userId || undefined, request.pageToken, size + 1);
      return { keys: keys.slice(0, size).map(shown), nextPageToken: nextToken(keys, size) };
    },

    revokeApiKey: async ({ id }) => ({ key: shown(await access.revokeKey(id, clock.now())) }),

    async updateApiKey({ key: given, updateMask }) {
      const key = required(given, "key");
      const fields = maskedFields(updateMask?.paths ?? [], updatable);
      checkNetworks(key.allowedAddresses);
      const changes = {
        ...(fields.has("name") ? { name: key.name } : {}),
        ...(fields.has("models") ? { models: key.models } : {}),
        ...(fields.has("allowed_addresses") ? { allowedAddresses: key.allowedAddresses } : {}),
        ...(fields.has("budget") ? { budget: budgetTerms(key.budget) } : {}),
        ...(fields.has("limits") ? { limits: key.limits } : {}),
        ...(fields.has("expires_at") ? { expiresAt: future(key.expiresAt, clock.now()) } : {}),
      };
      return { key: shown(await access.updateKey(key.id, changes, clock.now())) };
    },

    async rotateApiKey({ id, grace }) {
      const graceMs = grace ? durationMs(grace) : 0;
      if (graceMs < 0 || graceMs > graceMaxMs) throw invalid("grace: expected at most a year.");
      const { secret, prefix } = makeKey("user");
      const now = clock.now();
      const rotated = { prefix, hash: hashKey(secret, pepper), previousEndsAt: now + graceMs };
      return { key: shown(await access.rotateKey(id, rotated, now)), secret };
    },
  } satisfies Partial<ServiceImpl<typeof AccessService>>;
}

const updatable = ["name", "models", "allowed_addresses", "budget", "limits", "expires_at"] as const;

function checkNetworks(networks: readonly string[]): void {
  const wrong = networks.find((network) => !isNetwork(network));
  if (wrong === undefined) return;
  throw invalid(`allowed_addresses: "${wrong}" is no address or network such as 10.0.0.0/8.`);
}

/** A key as the store gave it, with the budget of the present window. */
export function keyNow(key: ApiKey, now: number): ApiKey {
  const budget = budgetNow(key.budget, now);
  if (!budget) return key;
  const shown = clone(ApiKeySchema, key);
  shown.budget = budget;
  return shown;
}
