// What was decided for the requests of late: a bounded memory, for Explain.
import { LRUCache } from "lru-cache";
import type { AcquireRequest } from "#gen/drawbridge/v1/scheduler_service";
import type { Clock } from "../../kit/clock.ts";
import { asDrawbridgeError, type DrawbridgeError } from "../../kit/errors.ts";
import type { ClaimRefusal } from "../claim.ts";
import { type Candidate, loadOf } from "../fleet/candidate.ts";
import type { Ranked } from "../fleet/model-index.ts";
import type { View } from "../fleet/view.ts";
import type { Hope } from "../prospect.ts";

/** How one attempt was decided. */
export interface Decision {
  readonly request: AcquireRequest;
  readonly at: number;
  /** For what it waited in the queue, if it did. */
  waitedFor: Hope | undefined;
  decidedAt: number | undefined;
  /** The candidates of the last choice, as they were then. */
  candidates: readonly Ranked[];
  leftOut: number;
  /** Those that the store refused. */
  readonly refusals: { readonly accountId: string; readonly workerId: string; readonly refused: ClaimRefusal }[];
  taken: { readonly accountId: string; readonly workerId: string; readonly holder: boolean } | undefined;
  failure: DrawbridgeError | undefined;
}

/** Notes how an attempt is decided. */
export interface DecisionRecord {
  /** A candidate is about to be claimed. */
  choosing(): void;
  refused(candidate: Candidate, refused: ClaimRefusal): void;
  taken(candidate: Candidate): void;
  waiting(hope: Hope): void;
  failed(error: unknown): void;
}

export interface Decisions {
  begin(request: AcquireRequest): DecisionRecord;
  /** The attempts of a request, oldest first. undefined: none is remembered. */
  of(requestId: string): readonly Decision[] | undefined;
}

export interface DecisionsOptions {
  readonly view: View;
  readonly clock: Clock;
  /** Requests that are remembered, the newest ones. */
  readonly requestsMax: number;
  /** Candidates that are kept of a decision. */
  readonly candidatesMax: number;
}

/** Attempts and refusals that are kept of a request. */
const attemptsMax = 16;
const refusalsMax = 64;

export function createDecisions({ view, clock, requestsMax, candidatesMax }: DecisionsOptions): Decisions {
  if (requestsMax === 0) return { begin: () => forgetful, of: () => undefined };
  const requests = new LRUCache<string, Decision[]>({ max: requestsMax });

  const snapshot = (decision: Decision) => {
    const index = view.model(decision.request.model);
    decision.candidates = (index?.rank(candidatesMax, clock.now()) ?? []).map(copyOf);
    decision.leftOut = (index?.size ?? 0) - decision.candidates.length;
  };

  return {
    begin(request) {
      const decision = newDecision(request, clock.now());
      const attempts = requests.get(request.requestId) ?? [];
      if (attempts.length < attemptsMax) requests.set(request.requestId, [...attempts, decision]);
      return {
        choosing: () => snapshot(decision),
        refused({ account, workerId }, refused) {
          if (decision.refusals.length < refusalsMax)
            decision.refusals.push({ accountId: account.id, workerId, refused });
        },
        taken(candidate) {
          const { account, workerId } = candidate;
          const { conversation } = request;
          const holder = conversation !== "" && view.holds(conversation, candidate);
          decision.taken = { accountId: account.id, workerId, holder };
          decision.decidedAt = clock.now();
        },
        waiting: (hope) => void (decision.waitedFor = hope),
        failed(error) {
          snapshot(decision);
          decision.failure = asDrawbridgeError(error);
          decision.decidedAt = clock.now();
        },
      };
    },
    of: (requestId) => requests.peek(requestId),
  };
}

const forgetful: DecisionRecord = {
  choosing: () => {},
  refused: () => {},
  taken: () => {},
  waiting: () => {},
  failed: () => {},
};

function newDecision(request: AcquireRequest, at: number): Decision {
  return {
    request,
    at,
    waitedFor: undefined,
    decidedAt: undefined,
    candidates: [],
    leftOut: 0,
    refusals: [],
    taken: undefined,
    failure: undefined,
  };
}

/** The candidate as it is now; itself goes on changing. */
function copyOf(ranked: Ranked): Ranked {
  const { candidate } = ranked;
  const load = { known: loadOf(candidate), own: new Map<string, number>(), pending: 0 };
  return { ...ranked, candidate: { ...candidate, ...load, account: { ...candidate.account } } };
}
