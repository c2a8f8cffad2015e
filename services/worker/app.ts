// The worker: pools of agent processes, the prompts that run in them, and the registration that makes them known.
import { create } from "@bufbuild/protobuf";
import type { Client, ServiceImpl } from "@connectrpc/connect";
import type { FastifyInstance } from "fastify";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { AccountSpec, WorkerSpec } from "#gen/drawbridge/v1/account";
import type { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { type Worker, WorkerSchema } from "#gen/drawbridge/v1/worker";
import type { WorkerService } from "#gen/drawbridge/v1/worker_service";
import type { Clock } from "../kit/clock.ts";
import { createFence } from "../kit/fence.ts";
import type { Log } from "../kit/log.ts";
import { newId, type Random } from "../kit/random.ts";
import { createAgentStarter } from "./protocol/agent-starter.ts";
import { createAttempts } from "./turn/attempts.ts";
import { createLane, type Lane } from "./conversations/lane.ts";
import { createSchemaValidator } from "./formats/schema-validator.ts";
import { createToolServer } from "./tools/tool-server.ts";
import type { WorkerSettings } from "./config.ts";
import { type Environment, folderName } from "./process/environment.ts";
import { createDrain } from "./presence/drain.ts";
import { createWorkerService, type WorkerParts } from "./handlers.ts";
import { addWorkerRoutes } from "./http.ts";
import { createOrphanWatch } from "./presence/orphan.ts";
import { createOutbox } from "./presence/outbox.ts";
import { createPool } from "./pool/pool.ts";
import { workerHealth } from "./pool/pool-health.ts";
import { findProfile } from "./profiles/index.ts";
import { createReaper, type Reaper } from "./process/reaper.ts";
import { createTreeMemory } from "./process/process-table.ts";
import { createRegistration } from "./presence/registration.ts";
import { createStartGate } from "./pool/start-gate.ts";

export interface WorkerAppOptions {
  readonly spec: WorkerSpec;
  /** Where WorkerService listens; known once the server does. */
  readonly address: () => string;
  /** New with every start of the process. */
  readonly incarnation: string;
  readonly version: string;
  readonly config: WorkerSettings;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly registry: Client<typeof RegistryService>;
  /** For the agents' homes, which are kept, and working directories, which are not. */
  readonly directory: string;
  /** What references of accounts are resolved in, and where agents find programs. Default: the process's environment. */
  readonly environment?: Environment;
  /** What relative paths in the commands of agents are relative to. Default: the process's directory. */
  readonly folder?: string;
}

export interface WorkerApp extends AsyncDisposable {
  readonly service: ServiceImpl<typeof WorkerService>;
  routes(http: FastifyInstance): void;
  /** Starts pools and registration. Does not wait for agents or registry. */
  start(): Promise<void>;
  /**
   * Refuses new prompts, lets those in flight finish for `graceMs` (default: the setting), cancels the rest and ends all agents. A repeated
   * call can only shorten the grace.
   */
  drain(graceMs?: number): Promise<void>;
  /** Resolves when a drain has ended all agents and taken the worker out of the registry. */
  readonly drained: Promise<void>;
}

export function createWorkerApp(options: WorkerAppOptions): WorkerApp {
  const { spec, config, clock, random, log } = options;
  const workerTag = newId("agents");
  const environment = options.environment ?? process.env;
  const workDirectory = join(options.directory, "work", folderName(spec.workerId));
  const reaper = createReaper({ workerTag, path: environment["PATH"] ?? "/usr/bin:/bin", clock, log });
  const outbox = createOutbox({ sizeMax: config.outcomes_max, log });
  const validator = createSchemaValidator(clock);
  const toolServer = createToolServer({
    version: options.version,
    messageBytesMax: config.line_limit,
    clock,
    log,
  });
  const lanes = createLanes({
    ...options,
    environment,
    workDirectory,
    reaper,
    workerTag,
    onChange: () => registration.changed(),
  });
  const pools = [...lanes.values()].map(({ pool }) => pool);
  const attempts = createAttempts({
    workerId: spec.workerId,
    incarnation: options.incarnation,
    lanes,
    outbox,
    toolServer,
    validator,
    config,
    clock,
    log,
    onChange: () => registration.changed(),
  });
  const statuses = () => [...lanes.values()].map((lane) => lane.status());
  const describe = (): Worker => {
    const each = statuses();
    const { health, reason } = workerHealth(
      each.map((status) => ({ health: status.health, reason: status.healthReason })),
      drain.begun,
    );
    return create(WorkerSchema, {
      id: spec.workerId,
      incarnation: options.incarnation,
      address: options.address(),
      version: options.version,
      pid: process.pid,
      pools: each,
      health,
      healthReason: reason,
    });
  };
  const registration = createRegistration({
    registry: options.registry,
    describe,
    running: () => attempts.running,
    outbox,
    onHeard: () => orphan.heard(),
    gapMs: config.heartbeat_gap,
    clock,
    random,
    log,
  });
  const drain = createDrain({
    pools,
    attempts,
    registration,
    graceMs: config.drain_grace,
    clock,
    log,
  });
  const orphan = createOrphanWatch({
    timeoutMs: config.orphan_timeout,
    onOrphaned() {
      log.error({ after_ms: config.orphan_timeout }, "neither a registry nor a controller is heard: ending");
      void drain.begin();
    },
    clock,
  });
  const parts: WorkerParts = {
    attempts,
    describe,
    pools: statuses,
    drain: (graceMs) => drain.begin(graceMs),
    fence: createFence(Number(spec.epoch)),
    asked: () => orphan.heard(),
  };
  return {
    service: createWorkerService(parts),
    routes: (http) => addWorkerRoutes(http, parts),
    async start() {
      // Left by an earlier start of this worker that was killed.
      await rm(workDirectory, { recursive: true, force: true });
      for (const pool of pools) pool.start();
      registration.start();
      orphan.start();
    },
    drain: (graceMs) => drain.begin(graceMs),
    drained: drain.over,
    async [Symbol.asyncDispose]() {
      orphan[Symbol.dispose]();
      await drain.begin(0);
      await toolServer[Symbol.asyncDispose]();
      await validator[Symbol.asyncDispose]();
      await reaper[Symbol.asyncDispose]();
      await rm(workDirectory, { recursive: true, force: true });
    },
  };
}

interface LanesOptions extends WorkerAppOptions {
  readonly environment: Environment;
  readonly workDirectory: string;
  readonly reaper: Reaper;
  readonly workerTag: string;
  readonly onChange: () => void;
}

function createLanes(options: LanesOptions): ReadonlyMap<string, Lane> {
  const { spec, config } = options;
  const gate = createStartGate(config.starts_max);
  const nextNumber = counter();
  const measureMemory = createTreeMemory(options.clock);
  const createOne = (account: AccountSpec): Lane => {
    const profile = findProfile(account.agent, { agents: spec.agents, folder: options.folder ?? process.cwd() });
    const log = options.log.child({ account: account.id });
    const generation = spec.generations[account.id] ?? 0n;
    const startAgent = createAgentStarter({ ...options, account, profile, nextNumber });
    const own = { account, generation, profile, startAgent, gate, log };
    const pool = createPool({ ...options, ...own, measureMemory });
    return createLane({ ...options, pool, profile, log });
  };
  return new Map(spec.accounts.map((account) => [account.id, createOne(account)]));
}

function counter(): () => number {
  let last = 0;
  return () => (last += 1);
}
