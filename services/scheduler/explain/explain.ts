// Why the scheduler would choose, or chose, as it does: every candidate with its score, and why it was or was not taken.
import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import {
  type Candidate as CandidateMessage,
  CandidateSchema,
  type Decision as DecisionMessage,
  DecisionSchema,
  type ExplainRequest,
} from "#gen/drawbridge/v1/scheduler_service";
import { Health } from "#gen/drawbridge/v1/worker";
import { DrawbridgeError } from "../../kit/errors.ts";
import { type AccountState, availableSlots, type Candidate, loadOf, queueDepth } from "../fleet/candidate.ts";
import type { Ranked } from "../fleet/model-index.ts";
import type { View } from "../fleet/view.ts";
import type { Decision } from "./decisions.ts";

/** Candidates that one answer has at most. */
const candidatesMax = 10_000;

/** What a request for the model would meet now. */
export function explain(view: View, { model, excludedAccountIds }: ExplainRequest, now: number): CandidateMessage[] {
  const index = view.model(model);
  if (!index) return [];
  const excluded = ({ candidate }: Ranked) => excludedAccountIds.includes(candidate.account.id);
  const ranked = index.rank(candidatesMax, now);
  const messages = [...ranked.filter((each) => !excluded(each)), ...ranked.filter(excluded)].map((each, position) =>
    candidateMessage(each, position, excluded(each)),
  );
  const idle = [...index.members.values()].filter(({ leaves }) => leaves.size === 0);
  return [...messages, ...idle.map(({ account }) => withoutWorker(account))];
}

/** What was decided for a request. NOT_FOUND: nothing that is remembered here. */
export function explainPast(decisions: readonly Decision[] | undefined, requestId: string): DecisionMessage[] {
  if (decisions) return decisions.map(decisionMessage);
  throw new DrawbridgeError(
    "NOT_FOUND",
    `This scheduler decided nothing for request ${requestId}, or has forgotten it: it remembers the last ones only. ` +
      "Where several schedulers run, another one may have decided; ask each of them.",
  );
}

function decisionMessage(decision: Decision): DecisionMessage {
  const { request, taken, failure, waitedFor, at, decidedAt } = decision;
  return create(DecisionSchema, {
    attemptId: request.attemptId,
    model: request.model,
    at: timestampFromMs(at),
    ...(waitedFor && decidedAt !== undefined ? { waited: durationFromMs(Math.ceil(decidedAt - at)) } : {}),
    excludedAccountIds: request.excludedAccountIds,
    accountId: taken?.accountId ?? "",
    workerId: taken?.workerId ?? "",
    refused: failure?.reasonValue ?? ErrorReason.UNSPECIFIED,
    explanation: decisionText(decision),
    candidates: decision.candidates.map((each, position) => pastCandidate(decision, each, position)),
    candidatesLeftOut: decision.leftOut,
  });
}

function pastCandidate({ request, taken, refusals }: Decision, ranked: Ranked, position: number): CandidateMessage {
  const { account, workerId } = ranked.candidate;
  const message = candidateMessage(ranked, position, request.excludedAccountIds.includes(account.id));
  const refusal = refusals.find((each) => each.accountId === account.id && each.workerId === workerId);
  if (refusal) message.explanation = `the store refused it: ${refusal.refused}`;
  if (taken?.accountId !== account.id || taken.workerId !== workerId) return message;
  message.explanation = `taken; ${message.explanation}`;
  message.holdsConversation = taken.holder;
  return message;
}

function decisionText({ taken, failure, waitedFor, refusals }: Decision): string {
  const waited = waitedFor ? `waited for a ${waitedFor}; ` : "";
  const refused =
    refusals.length === 0
      ? ""
      : `; the store refused ${refusals.map(({ accountId, refused }) => `${accountId} (${refused})`).join(", ")}`;
  if (failure) return `${waited}refused: ${failure.message}${refused}`;
  if (!taken) return `${waitedFor ? `waits for a ${waitedFor}` : "is being decided"}${refused}`;
  const holder = taken.holder ? ", which holds the conversation" : "";
  return `${waited}taken: ${taken.accountId} on ${taken.workerId}${holder}${refused}`;
}

function candidateMessage(ranked: Ranked, position: number, excluded: boolean): CandidateMessage {
  const { candidate, score, speed, rejected } = ranked;
  const takeable = rejected === ErrorReason.UNSPECIFIED && !excluded;
  return create(CandidateSchema, {
    accountId: candidate.account.id,
    workerId: candidate.workerId,
    rank: takeable ? position + 1 : 0,
    score,
    credits: candidate.account.millicredits / 1_000,
    availableSlots: availableSlots(candidate),
    queueDepth: queueDepth(candidate),
    rejected: excluded ? ErrorReason.AGENT_ERROR : rejected,
    explanation: excluded
      ? "excluded: tried before for this request"
      : takeable
        ? takenText(ranked)
        : rejectedText(ranked),
    weight: speed.weight,
    ...(speed.firstContentMs === undefined ? {} : { firstContent: durationFromMs(Math.round(speed.firstContentMs)) }),
  });
}

function withoutWorker(account: AccountState): CandidateMessage {
  return create(CandidateSchema, {
    accountId: account.id,
    credits: account.millicredits / 1_000,
    rejected: ErrorReason.NO_WORKER,
    explanation: "no live worker",
    weight: 1,
  });
}

function takenText({ candidate, speed }: Ranked): string {
  const slow = speed.weight < 1 ? `, but ${(1 / speed.weight).toFixed(1)} times slower than the others` : "";
  const slots = availableSlots(candidate);
  if (slots === 0) return `would wait at the worker behind ${queueDepth(candidate)}${slow}`;
  return `${slots} of ${candidate.slots} slots free${slow}`;
}

function rejectedText({ candidate, rejected }: Ranked): string {
  const { account } = candidate;
  switch (rejected) {
    case ErrorReason.DRAINING:
      return account.drained ? "the account is drained" : "the worker drains";
    case ErrorReason.CREDITS_EXHAUSTED:
      return `a request takes ${account.cost / 1_000} credits, and ${account.millicredits / 1_000} are left`;
    case ErrorReason.BREAKER_OPEN:
      return `the breaker is open: ${account.breaker?.reason ?? ""}`;
    case ErrorReason.NO_CAPACITY:
      return busyText(candidate);
    case ErrorReason.NO_WORKER:
      return candidate.health === Health.UNHEALTHY ? "the worker is unhealthy" : "the worker could not be reached";
    default:
      return "";
  }
}

function busyText(candidate: Candidate): string {
  if (loadOf(candidate) >= candidate.slots) return `all ${candidate.slots} slots are taken`;
  return "the store said a moment ago that all its slots are taken";
}
