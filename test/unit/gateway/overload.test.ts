// What is refused when there is too much to do.
import { expect, it } from "vitest";
import { Priority } from "#gen/drawbridge/v1/scheduler_service";
import { gatewaySettings } from "../../../services/gateway/config.ts";
import { createOverloadGuard, type Load, overloadCause } from "../../../services/gateway/http/overload.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

const limits = gatewaySettings.parse({
  overload: { in_flight_max: 100, in_flight_bytes_max: "1000B", event_loop_delay_max: "100ms", heap_share_max: 0.5 },
}).overload;
const idle: Load = { inFlight: 1, inFlightBytes: 0, eventLoopDelayMs: 0, heapShare: 0 };

it.each([
  ["in_flight", { inFlight: 81 }, { inFlight: 96 }, { inFlight: 101 }],
  ["in_flight_bytes", { inFlightBytes: 801 }, { inFlightBytes: 951 }, { inFlightBytes: 1_001 }],
  ["event_loop_delay", { eventLoopDelayMs: 81 }, { eventLoopDelayMs: 96 }, { eventLoopDelayMs: 101 }],
  ["heap", { heapShare: 0.41 }, { heapShare: 0.48 }, { heapShare: 0.51 }],
])("%s: low priority goes first, then normal, then high", (cause, some, more, most) => {
  const causes = (load: object) =>
    [Priority.LOW, Priority.NORMAL, Priority.HIGH].map((priority) =>
      overloadCause({ ...idle, ...load }, limits, priority),
    );
  expect(causes({})).toEqual([undefined, undefined, undefined]);
  expect(causes(some)).toEqual([cause, undefined, undefined]);
  expect(causes(more)).toEqual([cause, cause, undefined]);
  expect(causes(most)).toEqual([cause, cause, cause]);
});

it("who was refused took nothing, and who leaves gives back once", async () => {
  const clock = new VirtualClock();
  let heapShare = 0;
  const vitals = { eventLoopDelayMs: () => 0, heapShare: () => heapShare, [Symbol.dispose]: () => {} };
  using guard = createOverloadGuard({ limits, clock, retryAfterMs: 7, vitals });
  const place = guard.enter(Priority.HIGH, 600);
  expect(() => guard.enter(Priority.HIGH, 600)).toThrow(
    expect.objectContaining({ reason: "NO_CAPACITY", retryAfterMs: 7 }),
  );
  guard.enter(Priority.HIGH, 400)[Symbol.dispose]();
  place[Symbol.dispose]();
  place[Symbol.dispose]();
  guard.enter(Priority.HIGH, 1_000)[Symbol.dispose]();
  expect(() => guard.enter(Priority.HIGH, 1_001)).toThrow();
  heapShare = 0.9;
  await clock.advance(1_000);
  expect(() => guard.enter(Priority.HIGH, 0)).toThrow();
});
