// What must be true at every step of a simulation, whatever happens.
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Breaker, BreakerState } from "#gen/drawbridge/v1/account";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import type { SchedulerSettings } from "../../../services/scheduler/config.ts";
import type { LeaseRequest, LeaseResult, LeaseSettlement, State } from "../../../services/state/state.ts";
import type { EventClock } from "./event-clock.ts";

export class Violation extends Error {}

export interface Invariants {
  /** The store, watched: every call of it is a step. */
  readonly state: State;
  /** The first thing that was wrong. */
  readonly violation: Violation | undefined;
  fail(what: string): void;
  /** Attempts that hold a lease. */
  readonly open: ReadonlySet<string>;
}

/** Watches a store for overspending, for more leases than places, for leases that are settled twice, and for breakers that break their rules. */
export function watchInvariants(state: State, clock: EventClock, settings: SchedulerSettings): Invariants {
  const open = new Set<string>();
  const settled = new Set<string>();
  const breakers = new Map<string, Breaker>();
  let violation: Violation | undefined;
  const fail = (what: string) => void (violation ??= new Violation(`${clock.monotonic()} ms: ${what}`));

  const credits = (balance: { granted: bigint; available: bigint; held: bigint; spent: bigint } | undefined) => {
    if (!balance) return;
    const { granted, available, held, spent } = balance;
    if (available < 0n || held < 0n || spent > granted) fail(`overspent: ${available} available, ${spent} spent`);
    if (granted !== available + held + spent) fail("the books do not add up");
  };

  const acquired = (request: LeaseRequest, result: LeaseResult) => {
    if (!result.acquired) return;
    credits(result.credits);
    if (settled.has(request.attemptId)) fail(`${request.attemptId} got a lease after it was settled`);
    if ((result.open ?? 0) > request.capacity) fail(`${request.workerId} has ${result.open} leases`);
    open.add(request.attemptId);
    const before = breakers.get(request.accountId);
    if (result.breaker) written(before, result.breaker);
    else if (before && !maySkipBreaker(before)) passes(before);
  };
  /** An opening by failures may be overruled by the panic guard, never one by a provider's word. */
  const maySkipBreaker = (breaker: Breaker) => breaker.cause === ErrorReason.UNSPECIFIED;
  const passes = (breaker: Breaker) => {
    if (breaker.state !== BreakerState.CLOSED) fail(`a call passed ${breaker.accountId}, whose breaker is not closed`);
  };

  const written = (before: Breaker | undefined, after: Breaker) => {
    const from = before?.state ?? BreakerState.CLOSED;
    const { state: to, probesLeft, probesSucceeded, accountId } = after;
    const until = before?.until ? timestampMs(before.until) : Infinity;
    if (from === BreakerState.CLOSED && to === BreakerState.HALF_OPEN) fail(`${accountId}: closed to half-open`);
    if (from === BreakerState.OPEN && to === BreakerState.CLOSED) fail(`${accountId}: open to closed without probes`);
    if (from === BreakerState.OPEN && to === BreakerState.HALF_OPEN && until > clock.now()) {
      fail(`${accountId}: probed ${until - clock.now()} ms too early`);
    }
    if (probesLeft < 0 || probesLeft + probesSucceeded > settings.breaker.probes) fail(`${accountId}: too many probes`);
    if (to === BreakerState.HALF_OPEN && from === BreakerState.HALF_OPEN && before && until > clock.now()) {
      // One that came to nothing is given out again.
      if (probesLeft > before.probesLeft + 1) fail(`${accountId}: probes came back by themselves`);
    }
    breakers.set(accountId, after);
  };

  const ended = (attemptId: string, { settled: first, credits: balance }: LeaseSettlement) => {
    credits(balance);
    if (first && settled.has(attemptId)) fail(`${attemptId} was settled twice`);
    if (!first) return;
    settled.add(attemptId);
    open.delete(attemptId);
  };

  const leases: State["leases"] = {
    ...state.leases,
    async acquire(request) {
      const result = await state.leases.acquire(request);
      acquired(request, result);
      return result;
    },
    async settle(outcome, now) {
      const result = await state.leases.settle(outcome, now);
      ended(outcome.attemptId, result);
      return result;
    },
  };
  const watchedBreakers: State["breakers"] = {
    ...state.breakers,
    async compareAndSet(breaker) {
      const after = await state.breakers.compareAndSet(breaker);
      if (after) written(breakers.get(after.accountId), after);
      return after;
    },
  };
  return {
    state: { ...state, leases, breakers: watchedBreakers },
    get violation() {
      return violation;
    },
    fail,
    open,
  };
}
