// Leadership: one controller acts at a time. A leader that cannot renew its lease stops acting at two thirds of it, while nobody else can
// have begun.
import type { Clock } from "../kit/clock.ts";
import type { Log } from "../kit/log.ts";
import type { Random } from "../kit/random.ts";
import type { LeaderLock } from "../state/state.ts";
import { stepDownFraction } from "./config.ts";
import { createTrigger } from "./trigger.ts";

/** The right to act. */
export interface Lead {
  /** The fencing token: drivers refuse a lower one than they have seen. */
  readonly epoch: number;
  /** Aborted when the right ends. */
  readonly signal: AbortSignal;
}

export interface LeadershipOptions {
  readonly lock: LeaderLock;
  /** Names this controller among all, its earlier runs included. */
  readonly owner: string;
  /** Whether a former owner is known to have ended, so that nobody has to wait for its lease. */
  readonly isGone: (owner: string) => boolean;
  readonly leaseMs: number;
  readonly renewMs: number;
  /** How often the others ask; sooner when the present lease ends, or is given up. */
  readonly retryMs: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** Those who wait for a lease to end ask within so long after it, not all at the same moment. */
const jitterMs = 200;

/** Disposing it gives the lead up. */
export interface Leadership extends AsyncDisposable {
  /** Begins to try; resolves after the first try. */
  start(): Promise<void>;
  readonly lead: Lead | undefined;
  /** Told when the lead is gained or lost. */
  onChange(listener: (lead: Lead | undefined) => void): Disposable;
}

export function createLeadership(options: LeadershipOptions): Leadership {
  const { lock, owner, clock, random, log } = options;
  const stopping = new AbortController();
  const listeners = new Set<(lead: Lead | undefined) => void>();
  let lead: (Lead & { readonly controller: AbortController }) | undefined;
  let deadline: Disposable | undefined;
  let hints: Disposable | undefined;
  const trigger = createTrigger(clock);
  let loop: Promise<void> = Promise.resolve();

  function become(epoch: number): void {
    if (lead?.epoch === epoch) return;
    stepDown("another epoch began");
    const controller = new AbortController();
    lead = { epoch, signal: controller.signal, controller };
    log.info({ owner, epoch }, "leading");
    for (const listener of listeners) listener(lead);
  }

  function stepDown(why: string): void {
    deadline?.[Symbol.dispose]();
    deadline = undefined;
    if (!lead) return;
    log.warn({ owner, epoch: lead.epoch, why }, "no longer leading");
    const { controller } = lead;
    lead = undefined;
    controller.abort();
    for (const listener of listeners) listener(undefined);
  }

  /**
   * Asks for the lease once; when to ask again, in ms. The lease is counted from before the call: its answer may have been long on its way.
   */
  async function attempt(): Promise<number> {
    const askedAt = clock.monotonic();
    const answer = await lock.acquire(owner, options.leaseMs, clock.now());
    if (!answer.leads) {
      stepDown(`${answer.owner} leads`);
      return Math.min(options.retryMs, answer.leftMs + Math.ceil(random() * jitterMs));
    }
    const leftMs = options.leaseMs * stepDownFraction - (clock.monotonic() - askedAt);
    if (leftMs <= 0 || stopping.signal.aborted) return options.retryMs;
    become(answer.epoch);
    deadline?.[Symbol.dispose]();
    deadline = clock.after(leftMs, () => stepDown("the lease could not be renewed in time"));
    return options.renewMs;
  }

  async function attemptSafely(): Promise<number> {
    try {
      return await attempt();
    } catch (error) {
      log.warn({ err: error, leads: lead !== undefined }, "the leader's lease could not be asked for");
      return options.retryMs;
    }
  }

  async function run(firstWaitMs: number): Promise<void> {
    let waitMs = firstWaitMs;
    while (!stopping.signal.aborted) {
      await trigger.wait(waitMs, stopping.signal);
      if (!stopping.signal.aborted) waitMs = await attemptSafely();
    }
  }

  return {
    async start() {
      const current = await lock.current(clock.now());
      if (current && options.isGone(current.owner)) {
        log.info({ owner: current.owner }, "the last leader has ended without giving its lease up; taking over");
        await lock.release(current.owner);
      }
      if (stopping.signal.aborted) return;
      hints = lock.onChange(() => {
        if (!lead) trigger.fire();
      });
      const first = attemptSafely();
      loop = first.then(run);
      await first;
    },
    get lead() {
      return lead;
    },
    onChange(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    async [Symbol.asyncDispose]() {
      if (stopping.signal.aborted) return;
      stopping.abort();
      hints?.[Symbol.dispose]();
      await loop;
      stepDown("the controller stops");
      // Also if it does not lead: a lease may have been granted whose answer came too late.
      await lock.release(owner).catch((error: unknown) => {
        log.warn({ err: error }, "the leader's lease could not be given up; it ends by itself");
      });
    },
  };
}
