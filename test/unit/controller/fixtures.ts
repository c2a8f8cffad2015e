// Accounts, workers and processes as the plan sees them.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Account, AccountSchema, AccountSpecSchema, WorkerSpecSchema } from "#gen/drawbridge/v1/account";
import { Health, type Worker, WorkerSchema } from "#gen/drawbridge/v1/worker";
import type { WorkerProcess } from "../../../services/controller/drivers/driver.ts";
import { type HealthRecord, type Observation, observe } from "../../../services/controller/observe.ts";
import { type Plan, type PlanView, plan } from "../../../services/controller/plan.ts";
import { controllerSettings } from "../../../services/controller/config.ts";
import { parseSettings } from "../../../services/kit/settings.ts";

export const settings = parseSettings(controllerSettings, {}, "test");
export const now = Date.UTC(2026, 0, 1);

type SpecFields = Partial<Omit<MessageInitShape<typeof AccountSpecSchema>, "$typeName">>;

export function account(id: string, fields: SpecFields = {}, state: { generation?: bigint; available?: bigint } = {}) {
  return create(AccountSchema, {
    spec: {
      id,
      agent: "demo",
      models: { m: "m" },
      millicreditsPerRequest: 1_000n,
      slots: 2,
      queue: 4,
      workers: { min: 1, max: 1 },
      ...fields,
    },
    generation: state.generation ?? 1n,
    credits: { available: state.available ?? 100_000n },
  });
}

export interface WorkerFields {
  readonly health?: Health;
  readonly generation?: bigint;
  readonly incarnation?: string;
  readonly busy?: number;
  readonly queued?: number;
  readonly pid?: number;
}

export function worker(id: string, accountIds: string | readonly string[], fields: WorkerFields = {}): Worker {
  const health = fields.health ?? Health.HEALTHY;
  return create(WorkerSchema, {
    id,
    incarnation: fields.incarnation ?? `${id}-inc`,
    address: `http://${id}`,
    health,
    pid: fields.pid ?? 0,
    pools: [accountIds].flat().map((accountId) => ({
      accountId,
      generation: fields.generation ?? 1n,
      models: ["m"],
      slots: 2,
      availableSlots: 2 - (fields.busy ?? 0),
      queueDepth: fields.queued ?? 0,
      health,
    })),
  });
}

export function processOf(workerId: string, runs: Account, startedAt = now, pid = 0): WorkerProcess {
  const accounts = runs.spec ? [runs.spec] : [];
  const generations = { [runs.spec?.id ?? ""]: runs.generation };
  return { workerId, spec: create(WorkerSpecSchema, { workerId, accounts, generations }), pid, startedAt };
}

export function healthRecord(fields: Partial<HealthRecord> = {}): HealthRecord {
  return {
    incarnation: "",
    unanswered: 0,
    silentSince: undefined,
    proven: true,
    unhealthySince: undefined,
    reason: "",
    ...fields,
  };
}

export interface Scene extends Partial<Observation>, Partial<Omit<PlanView, "now" | "instances">> {}

/** What the controller would do and see. */
export function planOf(scene: Scene): Plan {
  const processes = scene.processes ?? [];
  const observation: Observation = {
    workers: [],
    owned: new Set(processes.map(({ workerId }) => workerId)),
    health: new Map(),
    draining: new Map(),
    lost: new Map(),
    trusted: true,
    leadingSince: now - 3_600_000,
    now,
    ...scene,
    processes,
  };
  return plan({
    accounts: [],
    agents: [],
    targets: new Map(),
    retryAt: new Map(),
    waiting: new Map(),
    surge: 1,
    unavailable: 0,
    ...scene,
    now: observation.now,
    instances: observe(observation, settings),
  });
}
