// The loop: a pass every resync, and at once when something changed, as long as this controller leads. A lost or doubled event changes
// nothing, since every pass looks at everything.
import type { Client } from "@connectrpc/connect";
import { Health } from "#gen/drawbridge/v1/worker";
import type { RegistryService } from "#gen/drawbridge/v1/registry_service";
import type { AccountSpec } from "#gen/drawbridge/v1/account";
import type { Clock } from "../kit/clock.ts";
import { DrawbridgeError } from "../kit/errors.ts";
import type { Log } from "../kit/log.ts";
import type { State } from "../state/state.ts";
import type { ControllerSettings } from "./config.ts";
import type { WorkerDriver, WorkerExit } from "./drivers/driver.ts";
import type { Events } from "./events.ts";
import type { FleetMemory } from "./fleet-memory.ts";
import type { HealthChecks } from "./health.ts";
import type { Lead, Leadership } from "./leader.ts";
import type { Step } from "./plan.ts";
import type { Reconciler } from "./reconciler.ts";
import type { Retries } from "./retries.ts";
import { createTrigger } from "./trigger.ts";
import type { WorkerView } from "./worker-view.ts";

export interface LoopOptions {
  readonly state: State;
  readonly leadership: Leadership;
  readonly reconciler: Reconciler;
  readonly view: WorkerView;
  readonly driver: WorkerDriver;
  readonly registry: Client<typeof RegistryService>;
  readonly memory: FleetMemory;
  readonly health: HealthChecks;
  readonly retries: Retries;
  readonly events: Events;
  readonly settings: ControllerSettings;
  readonly clock: Clock;
  readonly log: Log;
}

/** Disposing ends it and waits for what runs. */
export interface Loop extends AsyncDisposable {
  start(): void;
  /** A pass soon. */
  trigger(): void;
  /** A pass now; what was begun. NOT_LEADER. */
  reconcile(): Promise<readonly Step[]>;
  /** What a pass would do; with `specs`, if they were applied. */
  preview(specs: readonly AccountSpec[] | undefined): Promise<readonly Step[]>;
}

const deregisterTimeoutMs = 5_000;

export function createLoop(options: LoopOptions): Loop {
  const { leadership, reconciler, settings, clock, log } = options;
  const stopping = new AbortController();
  const subscriptions = new DisposableStack();
  const trigger = createTrigger(clock);
  const serial = createSerial();
  let passes: Promise<void> = Promise.resolve();
  let checks: Promise<void> = Promise.resolve();
  /** The epoch that the driver knows of, and for which all workers have been asked how they are, so that nobody counts on one that is long gone. */
  let begunEpoch = 0;
  let leadingSince = clock.now();
  let retry: Disposable | undefined;

  const pass = (lead: Lead) =>
    serial(async () => {
      const signal = AbortSignal.any([lead.signal, stopping.signal]);
      signal.throwIfAborted();
      if (begunEpoch !== lead.epoch) {
        await options.driver.claim(lead.epoch, signal);
        await reconciler.checkHealth(signal);
        if (options.view.known) begunEpoch = lead.epoch;
      }
      return await reconciler.pass({ epoch: lead.epoch, signal }, leadingSince);
    });

  async function passSafely(): Promise<number> {
    const { lead } = leadership;
    if (!lead || !options.view.known) return settings.resync;
    try {
      const { wakeAt } = await pass(lead);
      return wakeAt === undefined ? settings.resync : Math.min(settings.resync, Math.max(0, wakeAt - clock.now()));
    } catch (error) {
      if (lead.signal.aborted || stopping.signal.aborted) return settings.resync;
      log.warn({ err: error }, "a pass failed; trying again");
      return Math.min(settings.resync, settings.backoff);
    }
  }

  async function runPasses(): Promise<void> {
    let waitMs = 0;
    while (!stopping.signal.aborted) {
      await trigger.wait(waitMs, stopping.signal);
      if (stopping.signal.aborted) return;
      waitMs = await passSafely();
      await rest(settings.event_gap);
    }
  }

  async function runChecks(): Promise<void> {
    while (!stopping.signal.aborted) {
      await rest(settings.health_interval);
      const { lead } = leadership;
      if (!lead || stopping.signal.aborted) continue;
      try {
        if (await reconciler.checkHealth(AbortSignal.any([lead.signal, stopping.signal]))) trigger.fire();
      } catch (error) {
        if (!lead.signal.aborted && !stopping.signal.aborted) log.warn({ err: error }, "health could not be checked");
      }
    }
  }

  async function rest(ms: number): Promise<void> {
    await clock.sleep(ms, stopping.signal).catch(() => {
      // Only the end interrupts it, and the loops look for that.
    });
  }

  function subscribe(): void {
    const fire = () => trigger.fire();
    subscriptions.use(options.state.accounts.onChange(fire));
    subscriptions.use(options.state.breakers.onChange(fire));
    subscriptions.use(options.state.demand.onChange(fire));
    subscriptions.use(options.view.onChange(fire));
    subscriptions.use(options.driver.onExit((exit) => noteExit(exit, options, fire)));
    subscriptions.use(
      leadership.onChange((lead) => {
        if (!lead) return;
        leadingSince = clock.now();
        options.health.forgetAll();
        options.events.record("LeaderElected", `A controller leads, in epoch ${lead.epoch}.`);
        trigger.fire();
      }),
    );
    // An action that failed is tried again with the next look at the workers' health, not in a tight circle.
    subscriptions.use(
      reconciler.onApplied((succeeded) => {
        retry?.[Symbol.dispose]();
        if (succeeded) trigger.fire();
        else retry = clock.after(settings.health_interval, fire);
      }),
    );
  }

  return {
    start() {
      subscribe();
      passes = runPasses();
      checks = runChecks();
    },
    trigger: () => trigger.fire(),
    async reconcile() {
      const { lead } = leadership;
      if (!lead)
        throw new DrawbridgeError(
          "NOT_LEADER",
          "Another controller leads. Ask that one; `drawbridge status` names it.",
        );
      return (await pass(lead)).steps;
    },
    preview: (specs) => reconciler.preview(specs, leadingSince),
    async [Symbol.asyncDispose]() {
      stopping.abort();
      subscriptions.dispose();
      retry?.[Symbol.dispose]();
      await Promise.all([passes, checks]);
      await serial(async () => {});
      await reconciler[Symbol.asyncDispose]();
    },
  };
}

/** A worker's process ended: it is not routed to any more, and if nobody asked for it, its account waits before it tries too often. */
function noteExit(exit: WorkerExit, options: LoopOptions, trigger: () => void): void {
  const { view, memory, health, retries, events, clock } = options;
  const { workerId, code, signal, requested } = exit;
  const registered = view.get(workerId);
  const expected = requested || memory.draining.has(workerId) || registered?.health === Health.DRAINING;
  memory.over(workerId);
  health.forget(workerId);
  const how = signal === undefined ? `exit code ${code ?? "unknown"}` : signal;
  const ranMs = clock.now() - exit.startedAt;
  const message = `Worker ${workerId} ended (${how}) after ${(ranMs / 1_000).toFixed(1)} s.`;
  const [accountId = ""] = exit.spec.accounts.map(({ id }) => id);
  if (!expected) for (const { id } of exit.spec.accounts) retries.failed(id, ranMs, message);
  events.record("WorkerExited", message, { accountId, workerId });
  if (registered && (registered.pid === exit.pid || exit.pid === 0)) {
    const { incarnation } = registered;
    options.registry
      .deregister({ workerId, incarnation }, { timeoutMs: deregisterTimeoutMs })
      .catch((error: unknown) => {
        options.log.warn(
          { err: error, worker: workerId },
          "could not deregister a worker that ended; its lease will end by itself",
        );
      });
  }
  trigger();
}

/** Runs tasks one after the other. */
function createSerial(): <Result>(task: () => Promise<Result>) => Promise<Result> {
  let tail: Promise<unknown> = Promise.resolve();
  return (task) => {
    const result = tail.then(task);
    tail = result.catch(() => {
      // Whoever asked for the task hears of its failure.
    });
    return result;
  };
}
