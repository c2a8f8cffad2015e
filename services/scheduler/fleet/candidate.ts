// What can be chosen, and how good it is: pure functions of a candidate and the time. The index keeps its order by them, Explain shows them.
import { type Breaker, BreakerState } from "#gen/drawbridge/v1/account";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { Health } from "#gen/drawbridge/v1/worker";
import { admits } from "../breaker/breaker.ts";

/** An account as the view has it. Mutable: the view corrects it in place. */
export interface AccountState {
  readonly id: string;
  /** The revision of the specification that the rest was read with. */
  revision: number;
  /** Available credits, in thousandths. */
  millicredits: number;
  /** What a lease reserves, in thousandths. */
  cost: number;
  drained: boolean;
  breaker: Breaker | undefined;
}

/** An account's pool on a worker. Mutable, as above, and the same object for as long as the pool is there. */
export interface Candidate {
  readonly account: AccountState;
  readonly workerId: string;
  workerIncarnation: string;
  workerAddress: string;
  /** Revision of the worker's last word. */
  reported: bigint;
  health: Health;
  slots: number;
  queueLimit: number;
  /** Prompts that run or wait by the last word of the worker or the store, corrected by our own calls since. */
  known: number;
  /** Leases of ours that are open and that the worker may not have seen when it spoke last, with when they were taken, in ms since 1970. */
  readonly own: Map<string, number>;
  /** Claims of ours that the store has not answered. */
  pending: number;
  /** A failed connection takes it out until then, in ms since 1970. */
  downUntil: number;
  /** The store refused a claim: the view is behind, and nothing is tried before this time, in ms since 1970. */
  pausedUntil: number;
  /** Conversations that it could continue, as the worker told. */
  conversations: readonly string[];
}

/** How fast an account answers beside the others that serve the model. */
export interface Speed {
  /** Milliseconds to the first content, smoothed; undefined: too few calls to say. */
  readonly firstContentMs: number | undefined;
  /** From 0 to 1: the score is multiplied by it. Below 1: slow. */
  readonly weight: number;
}

/** Ways to score candidates, by the name that the settings give. More is better. */
export const policies = {
  /** credits × (available_slots + 1) / (queue_depth + 1). An account whose prompts cost nothing counts as having one credit. */
  credits: (candidate: Candidate): number => {
    const { cost, millicredits } = candidate.account;
    const credits = cost === 0 ? Math.max(1_000, millicredits) : millicredits;
    return ((credits / 1_000) * (availableSlots(candidate) + 1)) / (queueDepth(candidate) + 1);
  },
  /** The free share of the slots, whatever the credits. */
  least_loaded: (candidate: Candidate): number =>
    (availableSlots(candidate) + 1) / (candidate.slots + 1) / (queueDepth(candidate) + 1),
} as const;

export type PolicyName = keyof typeof policies;

/** Prompts that run or wait there now, as far as this scheduler knows. */
export function loadOf(candidate: Candidate): number {
  return Math.max(candidate.known, candidate.own.size) + candidate.pending;
}

export function availableSlots(candidate: Candidate): number {
  return Math.max(0, candidate.slots - loadOf(candidate));
}

export function queueDepth(candidate: Candidate): number {
  return Math.max(0, loadOf(candidate) - candidate.slots);
}

/** Places that the scheduler fills: the slots, and a part of the worker's own queue. */
export function capacityOf(candidate: Candidate, backlogMax: number): number {
  return candidate.slots + Math.min(candidate.queueLimit, backlogMax);
}

export interface Conditions {
  readonly now: number;
  /** Prompts that may wait at a worker, beyond its slots. */
  readonly backlogMax: number;
  /** An opening by failures alone does not count (the panic guard). */
  readonly openPasses: boolean;
}

/** Why a candidate cannot be taken; UNSPECIFIED: it can. */
export function rejection(candidate: Candidate, conditions: Conditions): ErrorReason {
  const { account } = candidate;
  if (account.drained) return ErrorReason.DRAINING;
  if (account.millicredits < account.cost) return ErrorReason.CREDITS_EXHAUSTED;
  if (account.breaker && admits(account.breaker, conditions.now) === "none") {
    if (!(conditions.openPasses && account.breaker.cause === ErrorReason.UNSPECIFIED)) return ErrorReason.BREAKER_OPEN;
  }
  if (candidate.health === Health.DRAINING) return ErrorReason.DRAINING;
  if (candidate.health === Health.UNHEALTHY || candidate.downUntil > conditions.now) return ErrorReason.NO_WORKER;
  if (candidate.pausedUntil > conditions.now) return ErrorReason.NO_CAPACITY;
  if (loadOf(candidate) >= capacityOf(candidate, conditions.backlogMax)) return ErrorReason.NO_CAPACITY;
  return ErrorReason.UNSPECIFIED;
}

/** Whether failures alone, and not a provider's word, keep all calls from the account now. */
export function openByFailures({ breaker }: AccountState, now: number): boolean {
  if (!breaker || breaker.state === BreakerState.CLOSED || breaker.cause !== ErrorReason.UNSPECIFIED) return false;
  return admits(breaker, now) === "none";
}

/** The key of what cannot be taken. */
export const untakeable = -Infinity;

/**
 * One number that orders what can be taken: a free slot of an account of usual speed, then a free slot of a slow one, then a place in a queue;
 * within each by score. Scores are not negative, so those of the lower two are folded into [-1, 0) and [-2, -1).
 */
export function orderKey(candidate: Candidate, score: number, weight: number): number {
  const weighted = score * weight;
  if (availableSlots(candidate) === 0) return -1 - 1 / (1 + weighted);
  return weight < 1 ? -1 / (1 + weighted) : weighted;
}
