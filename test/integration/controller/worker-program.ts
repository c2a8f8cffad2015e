// A worker without agents: registers, beats, answers health checks and drains. What the controller sees of a worker is all there.
import { create, fromJsonString } from "@bufbuild/protobuf";
import { WorkerSpecSchema } from "#gen/drawbridge/v1/account";
import { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { Health, type Worker, WorkerSchema } from "#gen/drawbridge/v1/worker";
import { WorkerService } from "#gen/drawbridge/v1/worker_service";
import { silentLog } from "../../../services/kit/log.ts";
import { newId } from "../../../services/kit/random.ts";
import { createDialer } from "../../../services/kit/rpc/client.ts";
import { internalTokenOnly } from "../../../services/kit/rpc/internal-token.ts";
import { mount, startRpcServer } from "../../../services/kit/rpc/server.ts";

const token = process.env["DRAWBRIDGE_INTERNAL_TOKEN"] ?? "";
const spec = fromJsonString(WorkerSpecSchema, process.env["DRAWBRIDGE_WORKER_SPEC"] ?? "");
const behaviour = spec.accounts[0]?.env["BEHAVIOUR"]?.source.value;
const incarnation = newId("inc");
let health: Health = behaviour === "never-healthy" ? Health.DEGRADED : Health.HEALTHY;

if (behaviour === "crash") process.exit(3);
process.stdin.on("end", () => process.exit(0)).resume();

const server = await startRpcServer({
  listen: { host: "127.0.0.1", port: 0 },
  services: [
    mount(WorkerService, {
      getHealth: async () => ({ worker: describe() }),
      async drain() {
        setImmediate(() => void leave());
        return { inFlight: 0 };
      },
    }),
  ],
  authorize: internalTokenOnly(token),
  ready: () => true,
  log: silentLog,
});
const registry = createDialer({ token }).client(RegistryService, process.env["DRAWBRIDGE_REGISTRY_URL"] ?? "", {
  unreachable: "STATE_UNAVAILABLE",
});
await registry.register({ worker: describe() });
setInterval(() => void registry.heartbeat({ worker: describe() }).catch(() => {}), 500);
process.on("SIGTERM", () => void leave());

function describe(): Worker {
  return create(WorkerSchema, {
    id: spec.workerId,
    incarnation,
    address: server.address,
    pid: process.pid,
    health,
    pools: spec.accounts.map(({ id, models, slots }) => ({
      accountId: id,
      generation: spec.generations[id] ?? 0n,
      models: Object.keys(models),
      slots,
      availableSlots: slots,
      health,
    })),
  });
}

async function leave(): Promise<void> {
  health = Health.DRAINING;
  await registry.heartbeat({ worker: describe() }).catch(() => {});
  await registry.deregister({ workerId: spec.workerId, incarnation }, { timeoutMs: 1_000 }).catch(() => {});
  process.exit(0);
}
