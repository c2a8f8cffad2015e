// Who asks: an API key → its record and its user. Answers are cached for a moment; admission checks the key's state again, in the store.
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { LRUCache } from "lru-cache";
import type { ApiKey } from "#gen/drawbridge/v1/access_service";
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import { bearerToken } from "../../kit/rpc/internal-token.ts";
import type { AccessStore } from "../../state/state.ts";
import { allowsAddress } from "./addresses.ts";
import { hashKey } from "./keys.ts";
import { userDisabled } from "./refusals.ts";

export interface Caller {
  readonly key: ApiKey;
  readonly userId: string;
  readonly tierName: string;
  readonly disabled: boolean;
}

export interface Authenticator extends Disposable {
  /**
   * The caller. UNAUTHENTICATED, always with the same words, so that they tell nothing about keys; PERMISSION_DENIED for a user who is disabled.
   */
  authenticate(authorization: string | undefined, address: string): Promise<Caller>;
}

export interface AuthenticatorOptions {
  readonly access: AccessStore;
  readonly clock: Clock;
  readonly pepper: string;
}

/** Keys that are remembered, and for how long without a hint, in ms. */
const cacheMax = 10_000;
const cacheTtlMs = 1_000;

export function createAuthenticator({ access, clock, pepper }: AuthenticatorOptions): Authenticator {
  const callers = new LRUCache<string, Caller>({
    max: cacheMax,
    ttl: cacheTtlMs,
    perf: { now: () => clock.monotonic() + 1 },
  });
  const subscription = access.onChange(() => callers.clear());

  const find = async (hash: string): Promise<Caller | undefined> => {
    const cached = callers.get(hash);
    if (cached) return cached;
    const key = await access.findKey(hash);
    const user = key && (await access.getUser(key.userId));
    if (!key || !user) return undefined;
    const caller = { key, userId: user.id, tierName: user.tier, disabled: user.disabled };
    callers.set(hash, caller);
    return caller;
  };

  return {
    async authenticate(authorization, address) {
      const secret = bearerToken(authorization);
      if (secret === undefined) {
        throw new DrawbridgeError(
          "UNAUTHENTICATED",
          "You didn't provide an API key. Send it in the header: Authorization: Bearer YOUR_API_KEY.",
        );
      }
      const caller = await find(hashKey(secret, pepper));
      if (!caller || isOver(caller.key, clock.now()) || !allowsAddress(caller.key.allowedAddresses, address)) {
        throw new DrawbridgeError("UNAUTHENTICATED", "Incorrect API key provided.");
      }
      if (caller.disabled) throw new DrawbridgeError("PERMISSION_DENIED", userDisabled);
      return caller;
    },

    [Symbol.dispose]: () => subscription[Symbol.dispose](),
  };
}

function isOver(key: ApiKey, now: number): boolean {
  return key.revokedAt !== undefined || (key.expiresAt !== undefined && timestampMs(key.expiresAt) <= now);
}
