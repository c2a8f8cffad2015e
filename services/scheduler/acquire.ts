// A lease for a prompt: the best candidates in order, each claimed in the store in one operation, until one is won; or a place in the queue.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { AcquireRequest, Lease } from "#gen/drawbridge/v1/scheduler_service";
import { End, OutcomeSchema } from "#gen/drawbridge/v1/usage";
import { DrawbridgeError } from "../kit/errors.ts";
import { claim, type ClaimOptions } from "./claim.ts";
import type { DecisionRecord, Decisions } from "./explain/decisions.ts";
import type { Candidate } from "./fleet/candidate.ts";
import type { GivenLease, GivenLeases } from "./given-leases.ts";
import { prospectOf } from "./prospect.ts";
import type { WaitingRooms } from "./queue/waiting-rooms.ts";

export interface AcquireOptions extends ClaimOptions {
  readonly given: GivenLeases;
  readonly decisions: Decisions;
  readonly rooms: WaitingRooms;
}

export interface AcquireCall {
  readonly request: AcquireRequest;
  /** Aborted when whoever asked has left. */
  readonly signal: AbortSignal;
  /** How long the caller waits for an answer, in ms; undefined: it did not say. */
  readonly timeoutMs: number | undefined;
}

/** A repeated call with the same attempt gets the lease that it has. */
export function acquire(options: AcquireOptions, call: AcquireCall): Promise<Lease> {
  return options.given.once(call.request.attemptId, () => give(options, call));
}

async function give(options: AcquireOptions, call: AcquireCall): Promise<GivenLease> {
  const { request } = call;
  const record = options.decisions.begin(request);
  try {
    // Those who wait go first, here and at other schedulers.
    const first = options.rooms.waits(request.model) ? undefined : choose(options, request, []);
    const placed = first && (await place(options, request, first, record));
    if (!placed) return await wait(options, call, record);
    if (!call.signal.aborted) return placed;
    await giveBack(options, placed);
    throw new DrawbridgeError("CANCELLED", "The caller left.");
  } catch (error) {
    record.failed(error);
    throw error;
  }
}

function wait(options: AcquireOptions, call: AcquireCall, record: DecisionRecord): Promise<GivenLease> {
  const prospect = prospectOf(options, call.request);
  if (prospect.kind === "hopeless") throw prospect.error;
  return options.rooms.wait(call, prospect.kind, record);
}

/** The candidate to try first now: the one that holds the conversation if it can take it at once, else the best. undefined: there is none. */
export function choose(
  { view, clock }: Pick<ClaimOptions, "view" | "clock">,
  { model, conversation, excludedAccountIds }: AcquireRequest,
  passed: readonly Candidate[],
): Candidate | undefined {
  const holder = conversation === "" ? undefined : view.holder(conversation, model);
  if (holder && !passed.includes(holder) && !excludedAccountIds.includes(holder.account.id)) return holder;
  return view.model(model)?.best(excludedAccountIds, passed, clock.now());
}

/** Claims `first`, and if the store refuses, the next best ones. undefined: it refused them all. */
export async function place(
  options: ClaimOptions,
  request: AcquireRequest,
  first: Candidate,
  record: DecisionRecord,
): Promise<GivenLease | undefined> {
  const passed: Candidate[] = [];
  let candidate: Candidate | undefined = first;
  for (let tries = 0; candidate && tries < options.config.claim_tries; tries += 1) {
    record.choosing();
    const result = await claim(options, candidate, request);
    if ("lease" in result) {
      record.taken(candidate);
      return { lease: result.lease, model: request.model, candidate };
    }
    record.refused(candidate, result.refused);
    // A breaker that changed may still let the call pass: its present state is known now.
    if (result.refused !== "breaker") passed.push(candidate);
    candidate = choose(options, request, passed);
  }
  return undefined;
}

/** A lease was won for somebody who had left meanwhile: nothing was done with it. */
export async function giveBack({ view, leases, clock }: ClaimOptions, { lease, candidate }: GivenLease): Promise<void> {
  const { attemptId, requestId, accountId, workerId } = lease;
  view.endLease(candidate, attemptId);
  const now = clock.now();
  const outcome = { attemptId, requestId, accountId, workerId, end: End.CANCELLED, endedAt: timestampFromMs(now) };
  const { credits } = await leases.settle(create(OutcomeSchema, outcome), now);
  if (credits) view.setCredits(accountId, Number(credits.available));
}
