// The first start: a user, an API key and an admin key, so that the first request works.
import type { State } from "../../state/state.ts";
import { defaultTierName } from "../config.ts";
import { hashKey, makeKey, prefixOf } from "./keys.ts";

export interface BootstrapOptions {
  readonly state: Pick<State, "access">;
  readonly settings: {
    /** DRAWBRIDGE_API_KEY: a key of the default user, instead of a made one. */
    readonly apiKey: string | undefined;
    /** DRAWBRIDGE_ADMIN_KEY: an admin key, instead of a made one. */
    readonly adminKey: string | undefined;
    readonly keyPepper: string | undefined;
  };
  readonly now: number;
}

/** Keys to show; undefined: not made at this start, and not known. */
export interface BootstrapResult {
  readonly apiKey: string | undefined;
  readonly adminKey: string | undefined;
}

const defaultUserId = "default";
/** $10.00 */
const defaultQuotaMicros = 10_000_000;

/** Makes what is missing. Keys that the environment sets are ensured at every start; made ones come at the first only. */
export async function ensureAccess({ state, settings, now }: BootstrapOptions): Promise<BootstrapResult> {
  const { access } = state;
  const pepper = settings.keyPepper ?? "";
  const first = !(await access.initialized());
  const apiKey = settings.apiKey ?? (first ? makeKey("user").secret : undefined);
  const adminKey = settings.adminKey ?? (first ? makeKey("admin").secret : undefined);

  if ((first || settings.apiKey !== undefined) && !(await access.getUser(defaultUserId))) {
    await access.createUser({ id: defaultUserId, tier: defaultTierName, quotaMicros: defaultQuotaMicros }, now);
  }
  if (apiKey !== undefined) await ensureKey(access, apiKey, pepper, now);
  if (adminKey !== undefined) await access.addAdminKey(hashKey(adminKey, pepper), now);
  return { apiKey, adminKey };
}

async function ensureKey(access: State["access"], secret: string, pepper: string, now: number): Promise<void> {
  const hash = hashKey(secret, pepper);
  if (await access.findKey(hash)) return;
  await access.createKey(
    {
      id: `key_${hash.slice(0, 16)}`,
      userId: defaultUserId,
      name: "default",
      prefix: prefixOf(secret),
      hash,
      models: [],
      allowedAddresses: [],
      budgetMicros: undefined,
      expiresAt: undefined,
    },
    now,
  );
}
