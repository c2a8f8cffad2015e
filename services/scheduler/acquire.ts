// A lease for a prompt: the candidates in order, each claimed in the store in one atomic operation, until one is won.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { type AcquireRequest, type Lease, LeaseSchema } from "#gen/drawbridge/v1/scheduler_service";
import type { Clock } from "../kit/clock.ts";
import { DrawbridgeError, type Reason } from "../kit/errors.ts";
import type { Random } from "../kit/random.ts";
import type { LeaseRecord, LeaseStore } from "../state/state.ts";
import { admits } from "./breaker.ts";
import type { Breakers } from "./breakers.ts";
import type { SchedulerSettings } from "./config.ts";
import type { GivenLeases } from "./given-leases.ts";
import { best, type Candidate, panics, type PickRequest, rejection } from "./pick.ts";
import type { View } from "./view.ts";

export interface AcquireOptions {
  readonly view: View;
  readonly leases: LeaseStore;
  readonly breakers: Breakers;
  readonly given: GivenLeases;
  readonly clock: Clock;
  readonly random: Random;
  readonly config: SchedulerSettings;
}

/** Claims that one call tries; beyond that the fleet is as good as full. */
const claimsMax = 8;

/** A repeated call with the same attempt gets the lease that it has. */
export async function acquire(options: AcquireOptions, request: AcquireRequest): Promise<Lease> {
  const known = options.given.find(request.attemptId);
  if (known) return known;
  const lease = await place(options, request);
  options.given.remember(lease);
  return lease;
}

async function place(options: AcquireOptions, request: AcquireRequest): Promise<Lease> {
  const { view, config, clock, random } = options;
  const pick: PickRequest = {
    excludedAccountIds: request.excludedAccountIds,
    now: clock.now(),
    openShareMax: config.breaker.open_share_max,
  };
  const candidates = view.candidates(request.model);
  const refused = new Set<Candidate>();
  while (refused.size < claimsMax) {
    const candidate = best(candidates, pick, random, (each) => refused.has(each));
    if (!candidate) break;
    const lease = await claim(options, candidate, request, pick.now);
    if (lease) return lease;
    refused.add(candidate);
  }
  // The view may be behind: a worker's word that was on its way counts prompts that have ended. The store knows whether it is full.
  const openPasses = panics(candidates, pick);
  for (const candidate of candidates) {
    if (refused.size >= claimsMax) break;
    if (refused.has(candidate) || rejection(candidate, pick, openPasses) !== ErrorReason.NO_CAPACITY) continue;
    const lease = await claim(options, candidate, request, pick.now);
    if (lease) return lease;
    refused.add(candidate);
  }
  throw nothingToTake(options, request, candidates, refused, pick);
}

async function claim(
  { view, leases, breakers, config }: AcquireOptions,
  candidate: Candidate,
  request: AcquireRequest,
  now: number,
): Promise<Lease | undefined> {
  const { account, workerId, workerIncarnation } = candidate;
  const probing = account.breaker && admits(account.breaker, now) === "probe";
  if (probing && !(await breakers.claim(account.id))) return undefined;
  // Counted before the store has answered, so that calls of the same moment do not all choose this one.
  view.addLoad(account.id, workerId, 1);
  let won = false;
  try {
    const result = await leases.acquire({
      attemptId: request.attemptId,
      requestId: request.requestId,
      accountId: account.id,
      workerId,
      workerIncarnation,
      model: request.model,
      millicredits: account.cost,
      capacity: candidate.slots + candidate.queueLimit,
      expiresAt: now + config.lease_ttl,
      now,
    });
    if (result.acquired) {
      won = true;
      view.setCredits(account.id, Number(result.credits.available));
      return leaseMessage(result.lease, candidate);
    }
    if (result.refused === "settled") {
      throw new DrawbridgeError("LEASE_INVALID", `Attempt ${request.attemptId} is over; name a new one.`);
    }
    if (result.refused === "exhausted") view.setCredits(account.id, 0);
    return undefined;
  } finally {
    if (!won) view.addLoad(account.id, workerId, -1);
  }
}

function leaseMessage(record: LeaseRecord, candidate: Candidate): Lease {
  return create(LeaseSchema, {
    attemptId: record.attemptId,
    requestId: record.requestId,
    accountId: record.accountId,
    workerId: record.workerId,
    workerIncarnation: record.workerIncarnation,
    workerAddress: candidate.workerAddress,
    millicredits: BigInt(record.millicredits),
    expiresAt: timestampFromMs(record.expiresAt),
  });
}

/** The error that tells the caller most: what would have to change for the request to be taken. */
function nothingToTake(
  { view, config }: AcquireOptions,
  { model, excludedAccountIds }: AcquireRequest,
  candidates: readonly Candidate[],
  refused: ReadonlySet<Candidate>,
  pick: PickRequest,
): DrawbridgeError {
  const wait = { retryAfterMs: config.retry_after };
  const accounts = view.accountsOf(model);
  if (accounts.length === 0) return new DrawbridgeError("MODEL_NOT_FOUND", `The model "${model}" does not exist.`);
  if (accounts.every((account) => account.millicredits < account.cost)) {
    return new DrawbridgeError("CREDITS_EXHAUSTED", `All accounts that serve "${model}" have spent their credits.`);
  }
  const openPasses = panics(candidates, pick);
  const reasons = candidates
    .filter((candidate) => !excludedAccountIds.includes(candidate.account.id))
    .map((candidate) => (refused.has(candidate) ? ErrorReason.NO_CAPACITY : rejection(candidate, pick, openPasses)));
  const messages: [ErrorReason, Reason, string][] = [
    [ErrorReason.NO_CAPACITY, "NO_CAPACITY", `All accounts that serve "${model}" are busy. Try again in a moment.`],
    [ErrorReason.BREAKER_OPEN, "BREAKER_OPEN", `The accounts that serve "${model}" fail at present. Try again later.`],
    [
      ErrorReason.CREDITS_EXHAUSTED,
      "CREDITS_EXHAUSTED",
      `The accounts that serve "${model}" have spent their credits.`,
    ],
  ];
  for (const [value, reason, message] of messages) {
    if (reasons.includes(value))
      return new DrawbridgeError(reason, message, reason === "CREDITS_EXHAUSTED" ? {} : wait);
  }
  return new DrawbridgeError("NO_WORKER", `No worker serves "${model}" at present. Try again in a moment.`, wait);
}
