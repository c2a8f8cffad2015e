// A worker with real agent processes, and a registry that remembers what it heard.
import { create } from "@bufbuild/protobuf";
import { type CallOptions, type Client, type ServiceImpl } from "@connectrpc/connect";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AccountSpecSchema, AgentSpecSchema, WorkerSpecSchema } from "#gen/drawbridge/v1/account";
import { type Prompt, PromptSchema, type PromptEvent, Role } from "#gen/drawbridge/v1/prompt";
import { type HeartbeatRequest, RegistryService } from "#gen/drawbridge/v1/registry_service";
import type { Outcome } from "#gen/drawbridge/v1/usage";
import { Health, type PoolStatus, type Worker } from "#gen/drawbridge/v1/worker";
import { PromptFailureSchema, WorkerService } from "#gen/drawbridge/v1/worker_service";
import { systemClock } from "../../../services/kit/clock.ts";
import { asDrawbridgeError, type DrawbridgeError, errorDetail } from "../../../services/kit/errors.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { newId, systemRandom } from "../../../services/kit/random.ts";
import { localClient } from "../../../services/kit/rpc/local.ts";
import { parseSettings } from "../../../services/kit/settings.ts";
import { createWorkerApp, type WorkerApp } from "../../../services/worker/app.ts";
import { workerSettings } from "../../../services/worker/config.ts";
import { faultyAgent, type Instruction } from "../../support/fleet.ts";
import { processesOf } from "../../support/system-processes.ts";
import { until } from "../../support/until.ts";

export const accountId = "account/1";
export const publicModel = "test/model-1";

export interface WorkerUnderTestOptions {
  /** Arguments of the faulty agent. */
  readonly agentArguments?: readonly string[];
  /** In front of the agent's command. */
  readonly wrapper?: readonly string[];
  /** A built-in profile instead of the faulty agent. */
  readonly profile?: string;
  /** Its command, in place of its own. */
  readonly command?: readonly string[];
  readonly slots?: number;
  readonly queue?: number;
  readonly models?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, { case: "value" | "fromEnv" | "fromFile"; value: string }>>;
  /** As in the configuration file. */
  readonly settings?: Readonly<Record<string, unknown>>;
  readonly environment?: Readonly<Record<string, string>>;
  /** Default: one that takes everything. */
  readonly registry?: ServiceImpl<typeof RegistryService>;
}

export interface WorkerUnderTest extends AsyncDisposable {
  readonly app: WorkerApp;
  readonly calls: Client<typeof WorkerService>;
  readonly directory: string;
  readonly registry: RecordingRegistry;
  pool(): Promise<PoolStatus>;
  /** Resolves when a process is ready. */
  ready(): Promise<void>;
  /** The agents' processes that live. */
  processes(): Promise<string[]>;
  prompt(instruction: Instruction, options?: PromptOptions): Promise<Answer>;
}

export interface PromptOptions extends CallOptions {
  readonly attemptId?: string;
  readonly prompt?: Partial<Omit<Prompt, "$typeName" | "$unknown">>;
  readonly onEvents?: (events: readonly PromptEvent[], outputTokens: number) => unknown;
}

/** What became of a prompt, as its caller saw it. */
export interface Answer {
  readonly attemptId: string;
  readonly text: string;
  readonly reasoning: string;
  readonly events: readonly PromptEvent[];
  /** Messages that it took. */
  readonly batches: number;
  readonly outcome: Outcome | undefined;
  readonly stopReason: number | undefined;
  readonly stopSequence: string | undefined;
  readonly error: DrawbridgeError | undefined;
}

export async function startWorker(options: WorkerUnderTestOptions = {}): Promise<WorkerUnderTest> {
  const directory = await mkdtemp(join(tmpdir(), "drawbridge-worker-"));
  const registry = createRecordingRegistry(options.registry);
  const app = createWorkerApp({
    spec: specFor(options),
    address: () => "http://127.0.0.1:1",
    incarnation: "inc_1",
    version: "test",
    config: parseSettings(
      workerSettings,
      { cancel_grace: "500ms", terminate_grace: "500ms", ...options.settings },
      "settings",
    ),
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    registry: localClient(RegistryService, registry.service),
    directory,
    environment: { PATH: process.env["PATH"] ?? "", LANG: "C.UTF-8", ...options.environment },
  });
  await app.start();
  const calls = localClient(WorkerService, app.service);
  const pool = async () => {
    const [status] = (await calls.listSlots({})).pools;
    if (!status) throw new Error("the worker has no pool");
    return status;
  };
  return {
    app,
    calls,
    directory,
    registry,
    pool,
    async ready() {
      await until("a process is ready", async () => (await pool()).health === Health.HEALTHY);
    },
    processes: async () => (await processesOf(directory)).map(({ command }) => command),
    prompt: (instruction, promptOptions) => runPrompt(calls, instruction, promptOptions),
    async [Symbol.asyncDispose]() {
      await app[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function specFor(options: WorkerUnderTestOptions) {
  const faulty = [...(options.wrapper ?? []), process.execPath, faultyAgent, ...(options.agentArguments ?? [])];
  const command = options.command ? [...options.command] : faulty;
  const name = options.profile ?? "faulty";
  const agents = options.profile && !options.command ? [] : [create(AgentSpecSchema, { name, command })];
  const env = Object.fromEntries(Object.entries(options.env ?? {}).map(([name, source]) => [name, { source }]));
  const account = create(AccountSpecSchema, {
    id: accountId,
    agent: name,
    models: { ...(options.models ?? { [publicModel]: "agent-model" }) },
    slots: options.slots ?? 1,
    queue: options.queue ?? 4,
    env,
  });
  const generations = { [accountId]: 7n };
  return create(WorkerSpecSchema, { workerId: "worker-1", accounts: [account], agents, generations });
}

async function runPrompt(
  calls: Client<typeof WorkerService>,
  instruction: Instruction,
  { attemptId = newId("att"), prompt, onEvents, ...callOptions }: PromptOptions = {},
): Promise<Answer> {
  const text = JSON.stringify(instruction);
  const request = {
    requestId: newId("req"),
    attemptId,
    accountId,
    prompt: create(PromptSchema, {
      model: publicModel,
      messages: [{ role: Role.USER, parts: [{ part: { case: "text", value: text } }] }],
      ...prompt,
    }),
  };
  const events: PromptEvent[] = [];
  let batches = 0;
  let error: DrawbridgeError | undefined;
  try {
    for await (const batch of calls.prompt(request, callOptions)) {
      events.push(...batch.events);
      batches += 1;
      await onEvents?.(batch.events, Number(batch.outputTokens));
    }
  } catch (thrown) {
    error = asDrawbridgeError(thrown);
  }
  const last = events.at(-1)?.event;
  const finished = last?.case === "finished" ? last.value : undefined;
  return {
    attemptId,
    text: joined(events, "text"),
    reasoning: joined(events, "reasoning"),
    events,
    batches,
    outcome: finished?.outcome ?? (error && errorDetail(error, PromptFailureSchema)?.outcome),
    stopReason: finished?.stopReason,
    stopSequence: finished?.stopSequence,
    error,
  };
}

function joined(events: readonly PromptEvent[], kind: "text" | "reasoning"): string {
  return events.map(({ event }) => (event.case === kind ? event.value.text : "")).join("");
}

export interface RecordingRegistry {
  readonly service: ServiceImpl<typeof RegistryService>;
  readonly registered: Worker[];
  readonly beats: HeartbeatRequest[];
  readonly outcomes: ReadonlyMap<string, Outcome>;
  readonly removed: string[];
  /** What the next calls do instead: throw this. */
  refuse(error: DrawbridgeError | undefined): void;
}

function createRecordingRegistry(service?: ServiceImpl<typeof RegistryService>): RecordingRegistry {
  const registered: Worker[] = [];
  const beats: HeartbeatRequest[] = [];
  const outcomes = new Map<string, Outcome>();
  const removed: string[] = [];
  let refusal: DrawbridgeError | undefined;
  const take = (delivered: readonly Outcome[]) => {
    for (const outcome of delivered) outcomes.set(outcome.attemptId, outcome);
    return delivered.map(({ attemptId }) => attemptId);
  };
  const recording: ServiceImpl<typeof RegistryService> = {
    register({ worker }) {
      if (refusal && refusal.reason !== "NOT_FOUND") throw refusal;
      if (worker) registered.push(worker);
      refusal = undefined;
      return { heartbeatInterval: { seconds: 1n, nanos: 0 } };
    },
    heartbeat(request) {
      if (refusal) throw refusal;
      beats.push(request);
      return { acknowledgedAttemptIds: take(request.outcomes) };
    },
    deregister(request) {
      if (refusal) throw refusal;
      take(request.outcomes);
      removed.push(request.workerId);
      return {};
    },
    listWorkers: () => ({ workers: [] }),
    // oxlint-disable-next-line require-yield
    async *watchWorkers() {},
  };
  return {
    service: service ?? recording,
    registered,
    beats,
    outcomes,
    removed,
    refuse: (error) => void (refusal = error),
  };
}
