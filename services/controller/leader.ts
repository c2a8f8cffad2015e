// Leadership: one controller acts at a time. A leader that cannot renew its lease stops acting at two thirds of it, while nobody else can
// have begun.
import type { Clock } from "../kit/clock.ts";
import type { Log } from "../kit/log.ts";
import type { LeaderLock } from "../state/state.ts";
import { stepDownFraction } from "./config.ts";

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
  readonly retryMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** Disposing it gives the lead up. */
export interface Leadership extends AsyncDisposable {
  /** Begins to try; resolves after the first try. */
  start(): Promise<void>;
  readonly lead: Lead | undefined;
  /** Told when the lead is gained or lost. */
  onChange(listener: (lead: Lead | undefined) => void): Disposable;
}

export function createLeadership(options: LeadershipOptions): Leadership {
  const { lock, owner, clock, log } = options;
  const stopping = new AbortController();
  const listeners = new Set<(lead: Lead | undefined) => void>();
  let lead: (Lead & { readonly controller: AbortController }) | undefined;
  let deadline: Disposable | undefined;
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

  /** The lease is counted from before the call: its answer may have been long on its way. */
  async function attempt(): Promise<void> {
    const askedAt = clock.monotonic();
    const answer = await lock.acquire(owner, options.leaseMs, clock.now());
    const leftMs = options.leaseMs * stepDownFraction - (clock.monotonic() - askedAt);
    if (!answer.leads) return stepDown(`${answer.owner} leads`);
    if (leftMs <= 0 || stopping.signal.aborted) return;
    become(answer.epoch);
    deadline?.[Symbol.dispose]();
    deadline = clock.after(leftMs, () => stepDown("the lease could not be renewed in time"));
  }

  async function attemptSafely(): Promise<number> {
    try {
      await attempt();
      return lead ? options.renewMs : options.retryMs;
    } catch (error) {
      log.warn({ err: error, leads: lead !== undefined }, "the leader's lease could not be asked for");
      return options.retryMs;
    }
  }

  async function run(firstWaitMs: number): Promise<void> {
    let waitMs = firstWaitMs;
    while (!stopping.signal.aborted) {
      await clock.sleep(waitMs, stopping.signal).catch(() => {
        // Only the end interrupts it, and the loop looks for that.
      });
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
      loop = run(await attemptSafely());
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
      await loop;
      const led = lead !== undefined;
      stepDown("the controller stops");
      if (led) await lock.release(owner);
    },
  };
}
