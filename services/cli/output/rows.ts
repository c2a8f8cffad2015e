// The JSON that scripts rely on: every object that a command prints with --json, made of the contract's messages. Dollars are in millionths,
// credits in thousandths, both whole numbers; times are ISO 8601; null is what does not apply.
import { durationMs, type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import {
  type AdminKey,
  AdminRole,
  type ApiKey,
  type Budget,
  BudgetWindow,
  type Channel,
  type Price,
  type RateLimits,
  type RedemptionCode,
  type Tier,
  type User,
} from "#gen/drawbridge/v1/access_service";
import { type Account, type Breaker, BreakerState, type Condition } from "#gen/drawbridge/v1/account";
import { type ChannelKeyStatus, ChannelState, type ChannelStatus } from "#gen/drawbridge/v1/channel";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { type Action, ActionType, type FleetEvent, type GetStatusResponse } from "#gen/drawbridge/v1/fleet_service";
import { type Candidate, type Decision, Priority } from "#gen/drawbridge/v1/scheduler_service";
import { Health, type PoolStatus, type Worker } from "#gen/drawbridge/v1/worker";
import { nameOf } from "../../kit/enum-name.ts";

export { usageRow } from "../../client/usage-export.ts";

export function userRow({ id, quota }: User) {
  return {
    id,
    granted: Number(quota?.granted ?? 0n),
    available: Number(quota?.available ?? 0n),
    held: Number(quota?.held ?? 0n),
    spent: Number(quota?.spent ?? 0n),
  };
}

export function keyRow(key: ApiKey) {
  return {
    id: key.id,
    user: key.userId,
    name: key.name,
    prefix: key.prefix,
    models: key.models,
    allow: key.allowedAddresses,
    budget: key.budgetMicros === undefined ? null : Number(key.budgetMicros),
    spent: Number(key.spentMicros),
    expires_at: time(key.expiresAt),
    revoked_at: time(key.revokedAt),
    created_at: time(key.createdAt),
    window: key.budget ? nameOf(BudgetWindow, key.budget.window) : null,
    ...limitsRow(key.limits),
    previous_ends_at: time(key.previousEndsAt),
  };
}

export function adminKeyRow(key: AdminKey) {
  return {
    id: key.id,
    name: key.name,
    prefix: key.prefix,
    role: nameOf(AdminRole, key.role).replaceAll("_", "-"),
    created_at: time(key.createdAt),
  };
}

export function codeRow(code: RedemptionCode) {
  return {
    id: code.id,
    name: code.name,
    prefix: code.prefix,
    amount: Number(code.quotaMicros),
    expires_at: time(code.expiresAt),
    created_at: time(code.createdAt),
    redeemed_by: code.redeemedBy === "" ? null : code.redeemedBy,
    redeemed_at: time(code.redeemedAt),
  };
}

/** Amounts in millionths of a dollar; null: no budget. */
export function budgetRow(budget: Budget | undefined) {
  if (!budget) return null;
  return {
    amount: Number(budget.micros),
    per: nameOf(BudgetWindow, budget.window),
    spent: Number(budget.spentMicros),
    held: Number(budget.heldMicros),
    resets_at: time(budget.resetsAt),
  };
}

/** null: not limited. */
export function limitsRow(limits: RateLimits | undefined) {
  const limit = (value: bigint | undefined) => (value === undefined ? null : Number(value));
  return {
    rpm: limit(limits?.requestsPerMinute),
    tpm: limit(limits?.tokensPerMinute),
    concurrency: limit(limits?.concurrency),
  };
}

export function newKeyRow(key: ApiKey, secret: string) {
  return { id: key.id, key: secret };
}

export function accountRow({ spec, credits, breaker, conditions, workerIds }: Account) {
  return {
    id: spec?.id ?? "",
    agent: spec?.agent ?? "",
    models: Object.keys(spec?.models ?? {}).toSorted(),
    granted: Number(credits?.granted ?? 0n),
    credits: Number(credits?.available ?? 0n),
    held: Number(credits?.held ?? 0n),
    spent: Number(credits?.spent ?? 0n),
    breaker: breakerState(breaker),
    conditions: conditions.map(conditionRow),
    workers: workerIds,
  };
}

function conditionRow({ type, status, reason, message, changedAt }: Condition) {
  return { type, status, reason, message, changed_at: time(changedAt) };
}

export function workerRow({ id, pid, address, health, pools, version }: Worker) {
  const total = (of: (pool: PoolStatus) => number) => pools.reduce((sum, pool) => sum + of(pool), 0);
  return {
    id,
    pid,
    address,
    accounts: pools.map((pool) => pool.accountId),
    health: nameOf(Health, health),
    slots: total((pool) => pool.slots),
    available_slots: total((pool) => pool.availableSlots),
    queue_depth: total((pool) => pool.queueDepth),
    version,
  };
}

export function statusRow({ leader, workers, accounts }: GetStatusResponse) {
  return { leader: leader === "" ? null : leader, workers: workers.map(workerRow), accounts: accounts.map(accountRow) };
}

export function breakerRow(breaker: Breaker) {
  return {
    account: breaker.accountId,
    state: breakerState(breaker),
    reason: breaker.reason,
    cause: reasonName(breaker.cause),
    until: time(breaker.until),
    openings: breaker.openings,
    changed_at: time(breaker.changedAt),
  };
}

export function actionRow({ type, accountId, workerId, reason }: Action) {
  return { type: nameOf(ActionType, type), account: accountId, worker: workerId, reason };
}

export function eventRow({ revision, at, type, accountId, workerId, message }: FleetEvent) {
  return { revision: Number(revision), at: time(at), type, account: accountId, worker: workerId, message };
}

export function candidateRow(candidate: Candidate) {
  return {
    account: candidate.accountId,
    worker: candidate.workerId,
    rank: candidate.rank,
    score: candidate.score,
    credits: Math.round(candidate.credits * 1_000),
    available_slots: candidate.availableSlots,
    queue_depth: candidate.queueDepth,
    rejected: reasonName(candidate.rejected),
    explanation: candidate.explanation,
    weight: candidate.weight,
    first_content_ms: candidate.firstContent ? durationMs(candidate.firstContent) : null,
  };
}

export function decisionRow(decision: Decision) {
  return {
    attempt: decision.attemptId,
    model: decision.model,
    at: time(decision.at),
    waited_ms: decision.waited ? durationMs(decision.waited) : null,
    excluded: decision.excludedAccountIds,
    account: decision.accountId || null,
    worker: decision.workerId || null,
    refused: reasonName(decision.refused),
    explanation: decision.explanation,
    candidates: decision.candidates.map(candidateRow),
    candidates_left_out: decision.candidatesLeftOut,
  };
}

/** The fields that the configuration file has. */
export function tierRow(tier: Tier) {
  return {
    name: tier.name,
    rpm: Number(tier.requestsPerMinute),
    tpm: Number(tier.tokensPerMinute),
    concurrency: Number(tier.concurrency),
    ratio: Number(tier.ratioPermille) / 1_000,
    priority: nameOf(Priority, tier.priority || Priority.NORMAL),
    budget: tier.budget ? Number(tier.budget.micros) : null,
    per: tier.budget ? nameOf(BudgetWindow, tier.budget.window) : null,
  };
}

/** The first three in millionths of a dollar per million tokens. */
export function priceRow(price: Price) {
  return {
    model: price.model,
    input: Number(price.inputMicrosPerMillion),
    output: Number(price.outputMicrosPerMillion),
    cached_input: price.cachedInputMicrosPerMillion === undefined ? null : Number(price.cachedInputMicrosPerMillion),
    request: Number(price.requestMicros),
  };
}

export function channelRow({ id, kind, priority, weight, models, spec, status, ...channel }: Channel) {
  return {
    id,
    kind,
    priority,
    weight,
    models,
    state: channelState(channel.disabled, status),
    reason: status?.reason ?? "",
    until: time(status?.until),
    base_url: spec?.baseUrl ?? "",
    concurrency: spec?.concurrency ?? 0,
    keys: (status?.keys ?? []).map(channelKeyRow),
    in_flight: Number(status?.inFlight ?? 0n),
    requests: Number(status?.requests ?? 0n),
    errors: Number(status?.errors ?? 0n),
    managed_by: channel.managedBy,
  };
}

/** The fleet has no state of its own here: its accounts have. */
function channelState(disabled: boolean, status: ChannelStatus | undefined): string {
  const state = disabled ? ChannelState.DISABLED : (status?.state ?? ChannelState.UNSPECIFIED);
  return nameOf(ChannelState, state === ChannelState.UNSPECIFIED ? ChannelState.READY : state);
}

function channelKeyRow({ name, state, reason, until }: ChannelKeyStatus) {
  return { name, state: nameOf(ChannelState, state), reason, until: time(until) };
}

/** An account without a record of its breaker has never had a failure. */
export function breakerState(breaker: Breaker | undefined): string {
  return nameOf(BreakerState, breaker?.state || BreakerState.CLOSED);
}

function reasonName(reason: ErrorReason): string | null {
  return reason === ErrorReason.UNSPECIFIED ? null : nameOf(ErrorReason, reason);
}

function time(timestamp: Timestamp | undefined): string | null {
  return timestamp ? timestampDate(timestamp).toISOString() : null;
}
