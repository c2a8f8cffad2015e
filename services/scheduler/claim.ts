// A claim: place, credits, the account's revision and the breaker's permit, taken from the store in one operation, or refused by it.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type AcquireRequest, type Lease, LeaseSchema } from "#gen/drawbridge/v1/scheduler_service";
import type { Clock } from "../kit/clock.ts";
import { DrawbridgeError } from "../kit/errors.ts";
import type { BreakerClaim, LeaseRecord, LeaseResult, LeaseStore } from "../state/state.ts";
import { admits, closedBreaker, takeProbe } from "./breaker/breaker.ts";
import type { Breakers } from "./breaker/breakers.ts";
import type { SchedulerSettings } from "./config.ts";
import { type AccountState, type Candidate, capacityOf } from "./fleet/candidate.ts";
import type { View } from "./fleet/view.ts";

export type ClaimRefusal = Extract<LeaseResult, { acquired: false }>["refused"];
export type ClaimResult = { readonly lease: Lease; readonly probe: boolean } | { readonly refused: ClaimRefusal };

export interface ClaimOptions {
  readonly view: View;
  readonly leases: LeaseStore;
  readonly breakers: Breakers;
  readonly clock: Clock;
  readonly config: SchedulerSettings;
  /** The view is behind: accounts are read again. */
  readonly refresh: () => void;
}

export async function claim(
  options: ClaimOptions,
  candidate: Candidate,
  request: AcquireRequest,
): Promise<ClaimResult> {
  const { view, leases, clock, config } = options;
  const { account } = candidate;
  const now = clock.now();
  view.beginClaim(candidate);
  let open: number | undefined;
  try {
    const result = await leases.acquire({
      attemptId: request.attemptId,
      requestId: request.requestId,
      accountId: account.id,
      workerId: candidate.workerId,
      workerIncarnation: candidate.workerIncarnation,
      model: request.model,
      millicredits: account.cost,
      capacity: capacityOf(candidate, config.queue.worker_backlog),
      expiresAt: now + config.lease_ttl,
      now,
      accountRevision: account.revision,
      breaker: breakerClaim(account, now, config),
    });
    if (!result.acquired) return learn(options, candidate, result);
    open = result.open ?? candidate.known + 1;
    view.setCredits(account.id, Number(result.credits.available));
    if (result.breaker) view.setBreaker(result.breaker);
    return { lease: leaseMessage(result.lease, candidate), probe: result.breaker !== undefined };
  } finally {
    view.endClaim(candidate, request.attemptId, open);
  }
}

function breakerClaim({ breaker }: AccountState, now: number, { breaker: policy }: SchedulerSettings): BreakerClaim {
  if (!breaker) return { revision: 0n };
  const probes = admits(breaker, now) === "probe";
  return { revision: breaker.revision, ...(probes ? { next: takeProbe(breaker, now, policy) } : {}) };
}

/** What a refusal says of the view: it is behind. */
function learn(
  { view, clock, config, refresh }: ClaimOptions,
  candidate: Candidate,
  result: Extract<LeaseResult, { acquired: false }>,
): ClaimResult {
  const { account } = candidate;
  switch (result.refused) {
    case "settled":
      throw new DrawbridgeError("LEASE_INVALID", "This attempt is over; name a new one.");
    case "breaker":
      view.setBreaker(result.breaker ?? closedBreaker(account.id));
      break;
    case "exhausted":
      view.setCredits(account.id, 0);
      break;
    case "full":
      // Its leases may end at another scheduler, which tells nobody: so the claim is tried again after a while.
      view.pause(candidate, clock.now() + config.claim_pause);
      break;
    case "changed":
    case "drained":
    case "unknown_account":
      view.pause(candidate, clock.now() + config.claim_pause);
      refresh();
      break;
    default:
      return result.refused satisfies never;
  }
  return { refused: result.refused };
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
