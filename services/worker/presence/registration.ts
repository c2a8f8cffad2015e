// The worker's side of the registry: register, beat, deliver outcomes, leave. A lost lease or a registry that was away is not a failure of
// the worker: it registers again.
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { Client } from "@connectrpc/connect";
import type { RegistryService } from "#gen/drawbridge/v1/registry_service";
import type { Worker } from "#gen/drawbridge/v1/worker";
import type { Clock } from "../../kit/clock.ts";
import { asDrawbridgeError } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import { backoffMs, type Random } from "../../kit/random.ts";
import type { Outbox } from "./outbox.ts";

export interface RegistrationOptions {
  readonly registry: Client<typeof RegistryService>;
  readonly describe: () => Worker;
  readonly running: () => readonly string[];
  readonly outbox: Outbox;
  /** The registry has answered, whatever. */
  readonly onHeard: () => void;
  /** The least time between two beats, in ms. */
  readonly gapMs: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export interface Registration {
  start(): void;
  /** Slots, health, attempts or outcomes changed: beats soon. */
  changed(): void;
  /** Ends the beats, delivers what it can within `boundMs`, and takes the worker out. */
  leave(boundMs: number): Promise<void>;
}

const defaultIntervalMs = 5_000;
/** At most; and no more than a third of the lease, so that a registry which hangs does not cost the lease while another one answers. */
const callTimeoutMaxMs = 5_000;
const callsInLease = 3;
const retryBaseMs = 200;
/** Outcomes wait for it: the longer they do, the more is lost if this worker is killed, and the nearer are the ends of leases and holds. */
const retryMaxMs = 1_000;
/** What one call may carry. */
const outcomesPerCall = 1_000;
const attemptsPerCall = 100_000;

export function createRegistration(options: RegistrationOptions): Registration {
  const { registry, describe, outbox, clock, log } = options;
  const ending = new AbortController();
  let loop: Promise<void> = Promise.resolve();
  let registered = false;
  let intervalMs = defaultIntervalMs;
  let timeoutMs = callTimeoutMaxMs;
  let dirty = false;
  let wake: (() => void) | undefined;

  async function register(): Promise<void> {
    const { heartbeatInterval, leaseTtl } = await registry.register(
      { worker: describe() },
      { timeoutMs, signal: ending.signal },
    );
    if (leaseTtl) timeoutMs = Math.ceil(Math.min(callTimeoutMaxMs, durationMs(leaseTtl) / callsInLease));
    intervalMs = heartbeatInterval ? Math.max(options.gapMs, durationMs(heartbeatInterval)) : defaultIntervalMs;
    registered = true;
    options.onHeard();
    log.info({ interval_ms: intervalMs }, "registered");
  }

  async function beat(): Promise<void> {
    dirty = false;
    const outcomes = outbox.oldest(outcomesPerCall);
    const runningAttemptIds = options.running().slice(0, attemptsPerCall);
    const answer = await registry.heartbeat({ worker: describe(), runningAttemptIds, outcomes }, { timeoutMs });
    options.onHeard();
    outbox.acknowledge(answer.acknowledgedAttemptIds);
    // More than one call carries is waiting, and the last one got through.
    if (outbox.size > 0 && answer.acknowledgedAttemptIds.length > 0) dirty = true;
  }

  /** Until the time is over, or something changed and the gap is. */
  async function rest(): Promise<void> {
    await pause(options.gapMs);
    if (dirty || ending.signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    wake = resolve;
    using _ = clock.after(Math.max(0, intervalMs - options.gapMs), resolve);
    await promise;
    wake = undefined;
  }

  async function pause(ms: number): Promise<void> {
    if (ending.signal.aborted) return;
    await clock.sleep(ms, ending.signal).catch(() => {
      // Only the end interrupts it, and the loop looks for that.
    });
  }

  async function run(): Promise<void> {
    let failures = 0;
    while (!ending.signal.aborted) {
      try {
        if (!registered) await register();
        await beat();
        failures = 0;
        if (!ending.signal.aborted) await rest();
      } catch (error) {
        if (ending.signal.aborted) return;
        failures += 1;
        registered = false;
        const { reason } = asDrawbridgeError(error);
        if (reason === "NOT_FOUND") options.onHeard();
        if (reason === "NOT_FOUND") log.info("the registry does not know this worker; registering again");
        else log.warn({ err: error, failures }, "the registry did not take a heartbeat");
        if (reason !== "NOT_FOUND" || failures > 1)
          await pause(backoffMs(failures, retryBaseMs, retryMaxMs, options.random));
      }
    }
  }

  return {
    start: () => void (loop = run()),
    changed() {
      dirty = true;
      wake?.();
    },
    async leave(boundMs) {
      ending.abort();
      wake?.();
      await loop;
      const { id: workerId, incarnation } = describe();
      const endsAt = clock.monotonic() + boundMs;
      // Outcomes are told even by a worker that is not registered at the moment, and are worth several tries.
      for (let failures = 1; registered || outbox.size > 0; failures += 1) {
        try {
          const outcomes = outbox.oldest(outcomesPerCall);
          const leftMs = Math.max(1, Math.ceil(endsAt - clock.monotonic()));
          await registry.deregister({ workerId, incarnation, outcomes }, { timeoutMs: leftMs });
          registered = false;
          outbox.acknowledge(outcomes.map(({ attemptId }) => attemptId));
        } catch (error) {
          const pauseMs = backoffMs(failures, retryBaseMs, retryMaxMs, options.random);
          if (outbox.size === 0 || clock.monotonic() + pauseMs >= endsAt) {
            log.warn({ err: error, undelivered: outbox.size }, "could not deregister; the lease will end by itself");
            return;
          }
          await clock.sleep(pauseMs);
        }
      }
    },
  };
}
