// Why the scheduler would choose as it does: every candidate with its score, and why it was not taken.
import { create } from "@bufbuild/protobuf";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import {
  type Candidate as CandidateMessage,
  CandidateSchema,
  type ExplainRequest,
} from "#gen/drawbridge/v1/scheduler_service";
import { Health } from "#gen/drawbridge/v1/worker";
import { availableSlots, type AccountState, type Candidate, queueDepth, rank, type Ranked } from "./pick.ts";
import type { View } from "./view.ts";

export function explain(view: View, request: ExplainRequest, now: number, openShareMax: number): CandidateMessage[] {
  const { model, excludedAccountIds } = request;
  const candidates = view.candidates(model);
  const ranked = rank(candidates, { excludedAccountIds, now, openShareMax });
  const served = new Set(candidates.map((candidate) => candidate.account.id));
  const idle = view.accountsOf(model).filter((account) => !served.has(account.id));
  return [...ranked.map(candidateMessage), ...idle.map(withoutWorker)];
}

function candidateMessage({ candidate, score, rejected }: Ranked, position: number): CandidateMessage {
  return create(CandidateSchema, {
    accountId: candidate.account.id,
    workerId: candidate.workerId,
    rank: rejected === undefined ? position + 1 : 0,
    score,
    credits: candidate.account.millicredits / 1_000,
    availableSlots: availableSlots(candidate),
    queueDepth: queueDepth(candidate),
    rejected: rejected ?? ErrorReason.UNSPECIFIED,
    explanation: rejected === undefined ? takenText(candidate) : rejectedText(candidate, rejected),
  });
}

function withoutWorker(account: AccountState): CandidateMessage {
  return create(CandidateSchema, {
    accountId: account.id,
    credits: account.millicredits / 1_000,
    rejected: ErrorReason.NO_WORKER,
    explanation: "no live worker",
  });
}

function takenText(candidate: Candidate): string {
  const slots = availableSlots(candidate);
  if (slots === 0) return `would wait in the queue behind ${queueDepth(candidate)}`;
  return `${slots} of ${candidate.slots} slots free`;
}

function rejectedText(candidate: Candidate, rejected: ErrorReason): string {
  const { account } = candidate;
  switch (rejected) {
    case ErrorReason.AGENT_ERROR:
      return "excluded: tried before for this request";
    case ErrorReason.DRAINING:
      return account.drained ? "the account is drained" : "the worker drains";
    case ErrorReason.CREDITS_EXHAUSTED:
      return `a request takes ${account.cost / 1_000} credits, and ${account.millicredits / 1_000} are left`;
    case ErrorReason.BREAKER_OPEN:
      return `the breaker is open: ${account.breaker?.reason ?? ""}`;
    case ErrorReason.NO_CAPACITY:
      return "all slots and all places in the queue are taken";
    case ErrorReason.NO_WORKER:
      return candidate.health === Health.UNHEALTHY ? "the worker is unhealthy" : "the worker could not be reached";
    default:
      return "";
  }
}
