// What there is: the registry's workers and the driver's processes, joined by id, each with one state. Pure.
import type { Account, AgentSpec } from "#gen/drawbridge/v1/account";
import { Health, type PoolStatus, type Worker } from "#gen/drawbridge/v1/worker";
import { runsSpec } from "./desired.ts";
import type { WorkerProcess } from "./drivers/driver.ts";

/** What the health checks know of a worker. */
export interface HealthRecord {
  readonly incarnation: string;
  /** Checks without an answer, in a row. */
  readonly unanswered: number;
  /** Since when, in ms; undefined: the last one was answered. */
  readonly silentSince: number | undefined;
  /** Whether it ever answered. */
  readonly proven: boolean;
  /** Since when its answers say UNHEALTHY, in ms. */
  readonly unhealthySince: number | undefined;
  /** The worker's own words, or why it could not be asked. */
  readonly reason: string;
}

export interface ObserveSettings {
  readonly health_failures: number;
  readonly mass_failure_wait: number;
  readonly start_timeout: number;
  readonly drain_grace: number;
}

export interface Observation {
  /** As registered. */
  readonly workers: readonly Worker[];
  readonly processes: readonly WorkerProcess[];
  /** Ids of workers that the driver runs or ran. */
  readonly owned: ReadonlySet<string>;
  /** By worker id. */
  readonly health: ReadonlyMap<string, HealthRecord>;
  /** Workers that drain, and since when. */
  readonly draining: ReadonlyMap<string, number>;
  /** Workers of the driver that were registered and are not any more, and since when. */
  readonly lost: ReadonlyMap<string, number>;
  /** Whether silence and absence say anything; false while the registry is new or has just lost most of what it knew. */
  readonly trusted: boolean;
  /** Start times count from here at the earliest: before, nobody looked. */
  readonly leadingSince: number;
  readonly now: number;
}

export type InstanceState =
  /** Runs, and has not registered yet. */
  | "starting"
  /** Registered, or was until it lost its registration: then it is unroutable, not dead. */
  | "running"
  /** Finishes what it has, then ends. */
  | "draining"
  /** Has to be taken away; the reason says why. */
  | "failed";

/** One worker, as far as the plan is concerned. */
export interface Instance {
  readonly workerId: string;
  readonly accountIds: readonly string[];
  readonly state: InstanceState;
  readonly reason: string;
  readonly process: WorkerProcess | undefined;
  readonly worker: Worker | undefined;
}

/** A worker may take a little longer than its grace to end. */
const drainMarginMs = 30_000;

export function observe(observation: Observation, settings: ObserveSettings): Instance[] {
  const processes = new Map(observation.processes.map((process) => [process.workerId, process]));
  const workers = new Map(present(observation.workers, processes).map((worker) => [worker.id, worker]));
  const silentTogether = isMassFailure(observation, settings);
  const ids = [...new Set([...workers.keys(), ...processes.keys()])].sort();
  return ids.map((workerId) => {
    const worker = workers.get(workerId);
    const process = processes.get(workerId);
    const accountIds = worker
      ? worker.pools.map(({ accountId }) => accountId)
      : (process?.spec.accounts.map(({ id }) => id) ?? []);
    const facts = { worker, process, workerId, silentTogether };
    return { workerId, accountIds, process, worker, ...judge(facts, observation, settings) };
  });
}

/** Registered workers without the records that a process left behind whose successor has not registered yet. */
export function present(workers: readonly Worker[], processes: ReadonlyMap<string, WorkerProcess>): Worker[] {
  return workers.filter(({ id, pid }) => {
    const process = processes.get(id);
    return !process || process.pid === 0 || pid === 0 || process.pid === pid;
  });
}

interface Facts {
  readonly workerId: string;
  readonly worker: Worker | undefined;
  readonly process: WorkerProcess | undefined;
  readonly silentTogether: boolean;
}

type Verdict = Pick<Instance, "state" | "reason">;

function judge(facts: Facts, observation: Observation, settings: ObserveSettings): Verdict {
  const { worker, process, workerId } = facts;
  if (!process && observation.owned.has(workerId)) return { state: "failed", reason: "Its process ended." };
  const failure = failureOf(facts, observation, settings);
  if (failure !== undefined) return { state: "failed", reason: failure };
  const drains = observation.draining.has(workerId) || worker?.health === Health.DRAINING;
  if (drains) return { state: "draining", reason: "It drains." };
  if (worker) return { state: "running", reason: worker.healthReason };
  if (observation.health.has(workerId)) return { state: "running", reason: "It lost its registration." };
  return { state: "starting", reason: "It starts." };
}

function failureOf(facts: Facts, observation: Observation, settings: ObserveSettings): string | undefined {
  const { worker, process, workerId } = facts;
  const { now, draining, leadingSince } = observation;
  const drainsSince = draining.get(workerId);
  if (drainsSince !== undefined && now - drainsSince > settings.drain_grace + drainMarginMs) {
    return `It did not end within ${seconds(settings.drain_grace)} of being drained.`;
  }
  const health = observation.health.get(workerId);
  if (health && isSilent(health, facts, observation, settings) && (observation.trusted || !health.proven)) {
    return `It did not answer ${health.unanswered === 1 ? "a health check" : `${health.unanswered} health checks`}: ${health.reason}`;
  }
  if (health?.unhealthySince !== undefined && now - health.unhealthySince >= settings.start_timeout) {
    return `It has been unhealthy for ${seconds(settings.start_timeout)}: ${health.reason}`;
  }
  if (!observation.trusted) return undefined;
  const lostSince = observation.lost.get(workerId);
  if (process && !worker && lostSince !== undefined && now - lostSince >= settings.start_timeout) {
    return `It lost its registration and has not registered again within ${seconds(settings.start_timeout)}.`;
  }
  // A worker that was ever registered has a health record.
  if (process && !worker && !health && now - Math.max(process.startedAt, leadingSince) >= settings.start_timeout) {
    return `It did not register within ${seconds(settings.start_timeout)}.`;
  }
  return undefined;
}

/** A worker that this controller did not start counts only once it has answered: its process may be long gone. */
function isSilent(health: HealthRecord, facts: Facts, observation: Observation, settings: ObserveSettings): boolean {
  if (!facts.process) return health.unanswered >= (health.proven ? settings.health_failures : 1);
  if (health.unanswered < settings.health_failures || health.silentSince === undefined) return false;
  return !facts.silentTogether || observation.now - health.silentSince >= settings.mass_failure_wait;
}

/** Many workers falling silent at once means that the network failed, not they. */
function isMassFailure({ processes, health }: Observation, settings: ObserveSettings): boolean {
  const silent = processes.filter(
    ({ workerId }) => (health.get(workerId)?.unanswered ?? 0) >= settings.health_failures,
  );
  return silent.length >= 3 && silent.length * 2 > processes.length;
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1_000)} s`;
}

export function poolOf({ worker }: Instance, accountId: string): PoolStatus | undefined {
  return worker?.pools.find((pool) => pool.accountId === accountId);
}

/** Whether the instance runs the account's present specification. A generation of 0 says nothing: it was started by hand. */
export function isCurrent(instance: Instance, account: Account, agents: readonly AgentSpec[]): boolean {
  if (instance.process && account.spec) return runsSpec(instance.process, account.spec, agents);
  const generation = poolOf(instance, account.spec?.id ?? "")?.generation ?? 0n;
  return generation === 0n || generation === account.generation;
}

/** Whether prompts of the account are taken there. */
export function takesPrompts(instance: Instance, accountId: string): boolean {
  const health = poolOf(instance, accountId)?.health;
  return instance.state === "running" && (health === Health.HEALTHY || health === Health.DEGRADED);
}

/** Whether prompts of the account would run there at once. */
export function isReady(instance: Instance, accountId: string): boolean {
  return instance.state === "running" && poolOf(instance, accountId)?.health === Health.HEALTHY;
}
