// A worker as a process of its own, for a test that kills it. Usage: killed-worker.ts FOLDER. Writes a line when its agents run.
import { create } from "@bufbuild/protobuf";
import { AccountSpecSchema, AgentSpecSchema, WorkerSpecSchema } from "#gen/drawbridge/v1/account";
import { Role } from "#gen/drawbridge/v1/prompt";
import { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { WorkerService } from "#gen/drawbridge/v1/worker_service";
import { systemClock } from "../../../services/kit/clock.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { systemRandom } from "../../../services/kit/random.ts";
import { localClient } from "../../../services/kit/rpc/local.ts";
import { parseSettings } from "../../../services/kit/settings.ts";
import { createWorkerApp } from "../../../services/worker/app.ts";
import { workerSettings } from "../../../services/worker/config.ts";
import { deafWrapper, faultyAgent } from "../../support/fleet.ts";

const models = { model: "agent-model" };
const app = createWorkerApp({
  spec: create(WorkerSpecSchema, {
    workerId: "worker-1",
    accounts: ["plain", "wrapped"].map((id) =>
      create(AccountSpecSchema, { id, agent: id, models, slots: 1, queue: 1 }),
    ),
    agents: [
      create(AgentSpecSchema, { name: "plain", command: [process.execPath, faultyAgent] }),
      create(AgentSpecSchema, { name: "wrapped", command: [deafWrapper, process.execPath, faultyAgent] }),
    ],
  }),
  address: () => "http://127.0.0.1:1",
  incarnation: "inc_1",
  version: "test",
  config: parseSettings(workerSettings, {}, "settings"),
  clock: systemClock,
  random: systemRandom,
  log: silentLog,
  registry: localClient(RegistryService, {
    register: () => ({}),
    heartbeat: () => ({}),
    deregister: () => ({}),
    listWorkers: () => ({}),
    // oxlint-disable-next-line require-yield
    async *watchWorkers() {},
  }),
  directory: process.argv[2] ?? "",
});
await app.start();
const calls = localClient(WorkerService, app.service);
for (const accountId of ["plain", "wrapped"]) {
  const parts = [{ part: { case: "text" as const, value: '{"do":"spawn"}' } }];
  const prompt = { model: "model", messages: [{ role: Role.USER, parts }] };
  for await (const _ of calls.prompt({
    requestId: `req_${accountId}`,
    attemptId: `att_${accountId}`,
    accountId,
    prompt,
  }));
}
process.stdout.write("ready\n");
setInterval(() => {}, 1_000);
