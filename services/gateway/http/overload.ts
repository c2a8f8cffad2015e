// Global overload protection: requests are refused before memory or latency goes, those of low priority first.
import { monitorEventLoopDelay } from "node:perf_hooks";
import { getHeapStatistics } from "node:v8";
import { Priority } from "#gen/drawbridge/v1/scheduler_service";
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { GatewaySettings } from "../config.ts";
import { requestShed } from "./telemetry.ts";

export type OverloadSettings = GatewaySettings["overload"];

/** What the gateway has to do, and what it has to do it with. */
export interface Load {
  readonly inFlight: number;
  readonly inFlightBytes: number;
  readonly eventLoopDelayMs: number;
  readonly heapShare: number;
}

export type OverloadCause = "in_flight" | "in_flight_bytes" | "event_loop_delay" | "heap";

/** The share of each limit at which a class is refused. */
const shares: Readonly<Record<Priority, number>> = {
  [Priority.LOW]: 0.8,
  [Priority.UNSPECIFIED]: 0.95,
  [Priority.NORMAL]: 0.95,
  [Priority.HIGH]: 1,
};

/** Why a request of this class is refused; undefined: it is not. */
export function overloadCause(load: Load, limits: OverloadSettings, priority: Priority): OverloadCause | undefined {
  const share = shares[priority] ?? shares[Priority.NORMAL];
  // The request itself counts: a limit of one takes one.
  if (load.inFlight > Math.max(1, Math.floor(limits.in_flight_max * share))) return "in_flight";
  if (load.inFlightBytes > limits.in_flight_bytes_max * share) return "in_flight_bytes";
  if (load.eventLoopDelayMs > limits.event_loop_delay_max * share) return "event_loop_delay";
  if (load.heapShare > limits.heap_share_max * share) return "heap";
  return undefined;
}

export interface OverloadGuard extends Disposable {
  /** Takes a request in until the returned place is disposed. Throws NO_CAPACITY where it is too much; then nothing was taken. */
  enter(priority: Priority, bytes: number): Disposable;
}

export interface OverloadGuardOptions {
  readonly limits: OverloadSettings;
  readonly clock: Clock;
  /** What a refused client is told to wait. */
  readonly retryAfterMs: number;
  /** What the process says of itself. Default: the real one. */
  readonly vitals?: Vitals;
}

/** What a process says of itself, looked at once in a while. */
export interface Vitals extends Disposable {
  eventLoopDelayMs(): number;
  heapShare(): number;
}

const lookEveryMs = 1_000;

export function createOverloadGuard({ limits, clock, retryAfterMs, ...options }: OverloadGuardOptions): OverloadGuard {
  const vitals = options.vitals ?? createVitals();
  let inFlight = 0;
  let inFlightBytes = 0;
  let seen = { eventLoopDelayMs: 0, heapShare: 0, at: clock.monotonic() };
  const look = () => {
    const at = clock.monotonic();
    if (at - seen.at < lookEveryMs) return seen;
    seen = { eventLoopDelayMs: vitals.eventLoopDelayMs(), heapShare: vitals.heapShare(), at };
    return seen;
  };
  return {
    enter(priority, bytes) {
      const load = { ...look(), inFlight: inFlight + 1, inFlightBytes: inFlightBytes + bytes };
      const cause = overloadCause(load, limits, priority);
      if (cause) {
        requestShed.publish({ cause, priority });
        throw new DrawbridgeError("NO_CAPACITY", "The server has too much to do. Try again.", { retryAfterMs });
      }
      inFlight += 1;
      inFlightBytes += bytes;
      let left = false;
      return {
        [Symbol.dispose]() {
          if (left) return;
          left = true;
          inFlight -= 1;
          inFlightBytes -= bytes;
        },
      };
    },
    [Symbol.dispose]: () => vitals[Symbol.dispose](),
  };
}

const nanosecondsInMs = 1_000_000;

/** This process. The delay is the median since the last look, so that one long pause counts little, less what the measurement itself waits. */
function createVitals(): Vitals {
  const resolutionMs = 20;
  const delays = monitorEventLoopDelay({ resolution: resolutionMs });
  delays.enable();
  return {
    eventLoopDelayMs() {
      const medianMs = delays.count === 0 ? 0 : delays.percentile(50) / nanosecondsInMs;
      delays.reset();
      return Math.max(0, medianMs - resolutionMs);
    },
    heapShare() {
      const { used_heap_size: used, heap_size_limit: limit } = getHeapStatistics();
      return used / limit;
    },
    [Symbol.dispose]: () => void delays.disable(),
  };
}
