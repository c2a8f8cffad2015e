// Which account and worker takes a prompt: pure functions of (candidates, request, now, random). Acquire takes the best, Explain shows all.
import { type Breaker, BreakerState } from "#gen/drawbridge/v1/account";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { Health } from "#gen/drawbridge/v1/worker";
import type { Random } from "../kit/random.ts";
import { admits } from "./breaker.ts";

/** An account as the view has it. Mutable: the view corrects it in place, so that a pick allocates nothing. */
export interface AccountState {
  readonly id: string;
  /** Available credits, in thousandths. */
  millicredits: number;
  /** What a lease reserves, in thousandths. */
  readonly cost: number;
  readonly drained: boolean;
  breaker: Breaker | undefined;
}

/** An account's pool on a worker. */
export interface Candidate {
  readonly account: AccountState;
  readonly workerId: string;
  readonly workerIncarnation: string;
  readonly workerAddress: string;
  /** Revision of the worker's last word. */
  readonly reported: bigint;
  health: Health;
  slots: number;
  queueLimit: number;
  /** Prompts that run or wait: what the worker reported, corrected by our own calls since. */
  load: number;
  /** A failed connection takes it out until then, in ms since 1970. */
  downUntil: number;
}

export interface PickRequest {
  readonly excludedAccountIds: readonly string[];
  readonly now: number;
  /** Failures alone take out at most this share of a model's accounts. */
  readonly openShareMax: number;
}

export function availableSlots(candidate: Candidate): number {
  return Math.max(0, candidate.slots - candidate.load);
}

export function queueDepth(candidate: Candidate): number {
  return Math.max(0, candidate.load - candidate.slots);
}

/** credits × (available_slots + 1) / (queue_depth + 1). An account whose prompts cost nothing counts as having one credit. */
export function score(candidate: Candidate): number {
  const { account } = candidate;
  const credits = account.cost === 0 ? Math.max(1_000, account.millicredits) : account.millicredits;
  return ((credits / 1_000) * (availableSlots(candidate) + 1)) / (queueDepth(candidate) + 1);
}

/** Why a candidate cannot be taken; undefined: it can. `openPasses`: an opening by failures alone does not count. */
export function rejection(candidate: Candidate, request: PickRequest, openPasses: boolean): ErrorReason | undefined {
  const { account } = candidate;
  if (request.excludedAccountIds.includes(account.id)) return ErrorReason.AGENT_ERROR;
  if (account.drained) return ErrorReason.DRAINING;
  if (account.millicredits < account.cost) return ErrorReason.CREDITS_EXHAUSTED;
  if (account.breaker && admits(account.breaker, request.now) === "none") {
    const byFailures = account.breaker.cause === ErrorReason.UNSPECIFIED;
    if (!(openPasses && byFailures)) return ErrorReason.BREAKER_OPEN;
  }
  if (candidate.health === Health.DRAINING) return ErrorReason.DRAINING;
  if (candidate.health === Health.UNHEALTHY || candidate.downUntil > request.now) return ErrorReason.NO_WORKER;
  if (candidate.load >= candidate.slots + candidate.queueLimit) return ErrorReason.NO_CAPACITY;
  return undefined;
}

/**
 * Whether so many candidates are open by failures that the breakers are no judge any more: then the fault is likely common to all, and taking out
 * the rest would only move the load onto what is left (Envoy calls it the panic threshold).
 */
export function panics(candidates: readonly Candidate[], request: PickRequest): boolean {
  let open = 0;
  for (const { account } of candidates) if (openByFailures(account.breaker, request.now)) open += 1;
  return open > 0 && open / candidates.length > request.openShareMax;
}

function openByFailures(breaker: Breaker | undefined, now: number): boolean {
  if (!breaker || breaker.state === BreakerState.CLOSED || breaker.cause !== ErrorReason.UNSPECIFIED) return false;
  return admits(breaker, now) === "none";
}

/** The best candidate: one with a free slot before one without, then by score, ties at random. undefined: none can be taken. */
export function best(
  candidates: readonly Candidate[],
  request: PickRequest,
  random: Random,
  passed: (candidate: Candidate) => boolean,
): Candidate | undefined {
  const openPasses = panics(candidates, request);
  let found: Candidate | undefined;
  let foundScore = 0;
  let ties = 0;
  for (const candidate of candidates) {
    if (passed(candidate) || rejection(candidate, request, openPasses) !== undefined) continue;
    const candidateScore = score(candidate);
    const order = found ? compare(candidate, candidateScore, found, foundScore) : 1;
    if (order > 0) ties = 1;
    else if (order === 0) ties += 1;
    // The n-th of n equals replaces the others with probability 1/n, so each of them has the same chance.
    if (order > 0 || (order === 0 && random() * ties < 1)) {
      found = candidate;
      foundScore = candidateScore;
    }
  }
  return found;
}

/** Above zero: a is better. */
function compare(a: Candidate, aScore: number, b: Candidate, bScore: number): number {
  const free = Number(availableSlots(a) > 0) - Number(availableSlots(b) > 0);
  return free !== 0 ? free : aScore - bScore;
}

export interface Ranked {
  readonly candidate: Candidate;
  readonly score: number;
  readonly rejected: ErrorReason | undefined;
}

/** All candidates, the best first, rejected ones last. */
export function rank(candidates: readonly Candidate[], request: PickRequest): Ranked[] {
  const openPasses = panics(candidates, request);
  return candidates
    .map((candidate) => ({
      candidate,
      score: score(candidate),
      rejected: rejection(candidate, request, openPasses),
    }))
    .sort((a, b) => {
      const taken = Number(a.rejected !== undefined) - Number(b.rejected !== undefined);
      return taken !== 0 ? taken : -compare(a.candidate, a.score, b.candidate, b.score);
    });
}
