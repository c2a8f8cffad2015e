// The first start: a user, an API key and an admin key, so that the first request works.
import { AdminRole } from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../kit/errors.ts";
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
  /** Whether a first start makes the keys that are not set. A gateway by itself shows them to nobody, so it makes none. Default true. */
  readonly make?: boolean;
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
export async function ensureAccess({ state, settings, make = true, now }: BootstrapOptions): Promise<BootstrapResult> {
  const { access } = state;
  // A variable that is set to nothing is not set.
  const given = { apiKey: settings.apiKey || undefined, adminKey: settings.adminKey || undefined };
  checkKeys(given);
  const pepper = settings.keyPepper ?? "";
  const first = make && !(await access.initialized());
  const apiKey = given.apiKey ?? (first ? makeKey("user").secret : undefined);
  const adminKey = given.adminKey ?? (first ? makeKey("admin").secret : undefined);

  if (first || given.apiKey !== undefined) {
    const user = { id: defaultUserId, tier: defaultTierName, quotaMicros: defaultQuotaMicros };
    await ensure(
      () => access.getUser(defaultUserId),
      () => access.createUser(user, now),
    );
  }
  if (apiKey !== undefined) await ensureKey(access, apiKey, pepper, now);
  if (adminKey !== undefined) await ensureAdminKey(access, adminKey, pepper, now);
  return { apiKey, adminKey };
}

/** Makes what is not there. Gateways may start at the same time: what another one makes in between is there as well. */
async function ensure(find: () => Promise<unknown>, make: () => Promise<unknown>): Promise<void> {
  if (await find()) return;
  try {
    await make();
  } catch (error) {
    if (!(error instanceof DrawbridgeError) || error.reason !== "ALREADY_EXISTS" || !(await find())) throw error;
  }
}

/** A key that could never be sent, or that opens more than it should, is refused instead of stored. */
function checkKeys({ apiKey, adminKey }: Pick<BootstrapOptions["settings"], "apiKey" | "adminKey">): void {
  for (const [name, key] of Object.entries({ DRAWBRIDGE_API_KEY: apiKey, DRAWBRIDGE_ADMIN_KEY: adminKey })) {
    if (key === undefined || /^[\x21-\x7e]{8,512}$/.test(key)) continue;
    throw new DrawbridgeError("INVALID_ARGUMENT", `${name} must be 8 to 512 visible ASCII characters without blanks.`);
  }
  if (apiKey !== undefined && apiKey === adminKey) {
    const message =
      "DRAWBRIDGE_API_KEY and DRAWBRIDGE_ADMIN_KEY are the same; applications must not have the admin key.";
    throw new DrawbridgeError("INVALID_ARGUMENT", message);
  }
}

/** It may do everything; whoever wants less of one makes others with it. */
async function ensureAdminKey(access: State["access"], secret: string, pepper: string, now: number): Promise<void> {
  const hash = hashKey(secret, pepper);
  const id = `admin_${hash.slice(0, 16)}`;
  await access.addAdminKey({ id, name: "first", prefix: prefixOf(secret), hash, role: AdminRole.ADMIN }, now);
}

async function ensureKey(access: State["access"], secret: string, pepper: string, now: number): Promise<void> {
  const hash = hashKey(secret, pepper);
  const key = {
    id: `key_${hash.slice(0, 16)}`,
    userId: defaultUserId,
    name: "default",
    prefix: prefixOf(secret),
    hash,
    models: [],
    allowedAddresses: [],
    budgetMicros: undefined,
    expiresAt: undefined,
  };
  await ensure(
    () => access.findKey(hash),
    () => access.createKey(key, now),
  );
}
