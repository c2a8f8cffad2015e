// What the tests start from: valid arguments of the state interface, of which a test names only what it is about.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect } from "vitest";
import { AdminRole, type Tier, TierSchema } from "#gen/drawbridge/v1/access_service";
import { type AccountSpec, AccountSpecSchema, type CreditBalance } from "#gen/drawbridge/v1/account";
import { End, type Outcome, OutcomeSchema, type Usage, UsageSchema, UsageSource } from "#gen/drawbridge/v1/usage";
import { Health, type Worker, WorkerSchema } from "#gen/drawbridge/v1/worker";
import type { Reason } from "../../../services/kit/errors.ts";
import type {
  AdmitRequest,
  AdmitResult,
  LeaseRequest,
  LeaseResult,
  NewAdminKey,
  NewApiKey,
  SettleRequest,
  State,
  UsageQuery,
} from "../../../services/state/state.ts";

/** The passed-in time at which tests begin. */
export const t0 = Date.UTC(2026, 0, 1);
export const minuteMs = 60_000;

/** Ids that a careless store trips over. */
export const hostileIds: readonly string[] = [
  "a b  c",
  "{",
  "}",
  "{}",
  "}{",
  "{a}b{c}",
  "%7B",
  "x:y:z",
  "line\nbreak\r\ttab",
  `quotes ' " \` \\ \\n`,
  "'; DROP TABLE users; --",
  "*?[a-z]^$",
  "ünïcödé 漢字 🏰 \u{1F469}\u200D\u{1F680}",
  "e\u0301", // the same glyph as the next one, and another id
  "\u00e9",
  "0",
  "-1",
  "1e3",
  "__proto__",
  "constructor",
  "null",
  " ",
  "x".repeat(4_000),
];

export function spec(fields: Partial<Omit<AccountSpec, "$typeName" | "workers">> = {}): AccountSpec {
  return create(AccountSpecSchema, {
    id: "a",
    agent: "demo",
    models: { m: "m" },
    initialMillicredits: 10_000n,
    millicreditsPerRequest: 1_000n,
    slots: 2,
    queue: 2,
    workers: { min: 1, max: 1 },
    ...fields,
  });
}

export function lease(fields: Partial<LeaseRequest> = {}): LeaseRequest {
  return {
    attemptId: "att",
    requestId: "req",
    accountId: "a",
    workerId: "w",
    workerIncarnation: "w-1",
    model: "m",
    millicredits: 1_000,
    capacity: 1_000_000,
    expiresAt: t0 + minuteMs,
    now: t0,
    ...fields,
  };
}

export function outcome(fields: MessageInitShape<typeof OutcomeSchema> = {}): Outcome {
  return create(OutcomeSchema, {
    attemptId: "att",
    requestId: "req",
    accountId: "a",
    workerId: "w",
    end: End.FINISHED,
    content: true,
    ...fields,
  });
}

export function usageOf(inputTokens: number, outputTokens: number): Usage {
  return create(UsageSchema, {
    inputTokens: BigInt(inputTokens),
    outputTokens: BigInt(outputTokens),
    source: UsageSource.REPORTED,
  });
}

export function tier(fields: MessageInitShape<typeof TierSchema> = {}): Tier {
  return create(TierSchema, {
    name: "default",
    requestsPerMinute: 1_000_000n,
    tokensPerMinute: 1_000_000_000n,
    concurrency: 1_000_000n,
    ratioPermille: 1000n,
    ...fields,
  });
}

export function apiKey(fields: Partial<NewApiKey> = {}): NewApiKey {
  const id = fields.id ?? "k";
  return {
    id,
    userId: "u",
    name: "a key",
    prefix: "sk-",
    hash: `hash of ${id}`,
    models: [],
    allowedAddresses: [],
    budgetMicros: undefined,
    expiresAt: undefined,
    ...fields,
  };
}

export function adminKey(fields: Partial<NewAdminKey> = {}): NewAdminKey {
  const id = fields.id ?? "admin";
  return { id, name: "", prefix: "sk-admin-", hash: `hash of ${id}`, role: AdminRole.ADMIN, ...fields };
}

export function admission(fields: Partial<AdmitRequest> = {}): AdmitRequest {
  return {
    requestId: "req",
    userId: "u",
    keyId: "k",
    model: "m",
    holdMicros: 100,
    tokens: 10,
    tier: tier(),
    price: undefined,
    expiresAt: t0 + minuteMs,
    now: t0,
    ...fields,
  };
}

export function settlement(fields: Partial<SettleRequest> = {}): SettleRequest {
  return {
    requestId: "req",
    userId: "u",
    costMicros: 60,
    end: End.FINISHED,
    usage: usageOf(3, 4),
    accountId: "a",
    millicredits: 1_000,
    now: t0 + 1,
    ...fields,
  };
}

export function worker(fields: MessageInitShape<typeof WorkerSchema> = {}): Worker {
  return create(WorkerSchema, {
    id: "w",
    incarnation: "w-1",
    address: "http://127.0.0.1:1",
    version: "1",
    pools: [{ accountId: "a", models: ["m"], slots: 2, availableSlots: 2, health: Health.HEALTHY }],
    health: Health.HEALTHY,
    ...fields,
  });
}

/** A user "u" with the key "k". */
export async function givenUser(
  state: State,
  fields: { id?: string; quotaMicros?: number; key?: Partial<NewApiKey> } = {},
): Promise<void> {
  const id = fields.id ?? "u";
  await state.access.createUser({ id, tier: "default", quotaMicros: fields.quotaMicros ?? 1_000 }, t0);
  await state.access.createKey(apiKey({ userId: id, ...fields.key }), t0);
}

export interface Balance {
  readonly granted: bigint;
  readonly available: bigint;
  readonly held: bigint;
  readonly spent: bigint;
}

/** A balance as plain numbers, after looking that its equation holds and nothing is negative. */
export function books(balance: Balance | CreditBalance | undefined) {
  if (!balance) throw new Error("There is no balance.");
  const { granted, available, held, spent } = balance;
  expect(available + held + spent, "granted = available + held + spent").toBe(granted);
  for (const amount of [available, held, spent]) expect(amount >= 0n, `${amount} is not negative`).toBe(true);
  return { granted: Number(granted), available: Number(available), held: Number(held), spent: Number(spent) };
}

export async function quotaBooks(state: State, userId = "u") {
  return books(await state.ledger.quota(userId));
}

export async function creditBooks(state: State, accountId = "a") {
  return books((await state.accounts.get(accountId))?.credits);
}

/** Why it was refused, or "admitted". */
export function verdict(result: AdmitResult): string {
  return result.admitted ? "admitted" : result.refusal.reason;
}

export function leaseVerdict(result: LeaseResult): string {
  return result.acquired ? "acquired" : result.refused;
}

export async function expectReason(reason: Reason, call: Promise<unknown>): Promise<void> {
  await expect(call).rejects.toMatchObject({ name: "DrawbridgeError", reason });
}

/** How many of each. */
export function tally(values: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}

/** All pages of the ledger, in order. */
export async function allUsage(state: State, query: Partial<UsageQuery> = {}) {
  const entries = [];
  let pageToken: string | undefined;
  do {
    const page = await state.ledger.usage({ limit: 100, ...query, pageToken });
    entries.push(...page.entries);
    pageToken = page.nextPageToken;
  } while (pageToken);
  return entries;
}
