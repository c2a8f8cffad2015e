import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { AccountSchema } from "#gen/drawbridge/v1/account";
import { ActionType } from "#gen/drawbridge/v1/fleet_service";
import { createApply } from "../../../services/controller/apply.ts";
import type { EventType } from "../../../services/controller/events.ts";
import { createFleetMemory } from "../../../services/controller/fleet-memory.ts";
import { createHealthChecks } from "../../../services/controller/health.ts";
import type { Step } from "../../../services/controller/plan.ts";
import { createRetries } from "../../../services/controller/retries.ts";
import { createWorkerView } from "../../../services/controller/worker-view.ts";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { silentDriver } from "../../support/silent-driver.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

function given({ destroyFails = false, deregisterFails = false }) {
  const clock = new VirtualClock();
  const random = seededRandom(1);
  const calls: string[] = [];
  const told: EventType[] = [];
  const unreachable = () => {
    throw new DrawbridgeError("WORKER_UNREACHABLE", "Nobody answers.");
  };
  const registry = {
    watchWorkers: async function* () {
      const worker = { id: "a-1", incarnation: "i", pools: [] };
      yield { element: { case: "snapshot", value: { workers: [worker] } } };
      await clock.sleep(1_000_000);
    },
    async deregister() {
      calls.push("deregister");
      if (deregisterFails) throw new DrawbridgeError("STATE_UNAVAILABLE", "Not now.");
      return {};
    },
  } as never;
  const driver = silentDriver({
    async create({ workerId }) {
      calls.push(`create ${workerId}`);
    },
    async destroy(workerId) {
      calls.push(`destroy ${workerId}`);
      if (destroyFails) throw new DrawbridgeError("INTERNAL", "The engine has trouble.");
    },
  });
  const view = createWorkerView({ registry, clock, random, log: silentLog });
  const apply = createApply({
    driver,
    registry,
    worker: unreachable,
    health: createHealthChecks({ worker: unreachable, clock, timeoutMs: 1_000 }),
    agents: [],
    view,
    memory: createFleetMemory(),
    retries: createRetries({ clock, random, baseMs: 1_000, maxMs: 60_000, stableMs: 10_000 }),
    events: { record: (type) => void told.push(type), async [Symbol.asyncDispose]() {} },
    clock,
    drainGraceMs: 1_000,
  });
  const step = (type: ActionType, workerId: string) =>
    ({ type, workerId, accountId: "a", reason: "", failed: true }) as unknown as Step;
  const replace = async () => {
    view.start();
    await clock.advance(1);
    const steps = [step(ActionType.DESTROY, "a-1"), step(ActionType.CREATE, "a-1"), step(ActionType.CREATE, "a-2")];
    const account = create(AccountSchema, { spec: { id: "a" } });
    return await apply(steps, account, { epoch: 1, signal: new AbortController().signal });
  };
  return { replace, calls, told };
}

describe("replacing a worker", () => {
  it("ends it, takes it from the registry, and starts another one of its name", async () => {
    const { replace, calls, told } = given({});
    expect(await replace()).toBe(true);
    expect(calls).toEqual(["destroy a-1", "deregister", "create a-1", "create a-2"]);
    expect(told).toEqual(["WorkerDestroyed", "WorkerCreated", "WorkerCreated"]);
  });

  it("starts none of the name of a worker that could not be ended, and others all the same", async () => {
    const { replace, calls, told } = given({ destroyFails: true });
    expect(await replace()).toBe(false);
    expect(calls).toEqual(["destroy a-1", "create a-2"]);
    expect(told).toEqual(["ActionFailed", "WorkerCreated"]);
  });

  it("does not wait for a registry that does not take the end of a worker", async () => {
    const { replace, calls } = given({ deregisterFails: true });
    expect(await replace()).toBe(false);
    expect(calls).toEqual(["destroy a-1", "deregister", "create a-1", "create a-2"]);
  });
});
