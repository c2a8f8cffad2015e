// A lease for a prompt: placed at once where that is possible and nobody waits, else a place in the queue.
import type { AcquireRequest, Lease } from "#gen/drawbridge/v1/scheduler_service";
import { DrawbridgeError } from "../kit/errors.ts";
import type { ClaimOptions } from "./claim.ts";
import type { DecisionRecord, Decisions } from "./explain/decisions.ts";
import type { GivenLease, GivenLeases } from "./given-leases.ts";
import { choose, giveBack, place } from "./place.ts";
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
