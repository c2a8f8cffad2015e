// A process that starts one worker through the process driver and then waits to be killed.
import { create } from "@bufbuild/protobuf";
import { AccountSpecSchema, WorkerSpecSchema } from "#gen/drawbridge/v1/account";
import { createProcessDriver } from "../../../services/controller/drivers/process.ts";
import { systemClock } from "../../../services/kit/clock.ts";
import { silentLog } from "../../../services/kit/log.ts";

const [entry = "", directory = "", report = ""] = process.argv.slice(2);
const driver = createProcessDriver({
  entry,
  registryUrl: () => "http://127.0.0.1:1",
  token: "t",
  directory,
  log: silentLog,
  clock: systemClock,
  workerEnvironment: { REPORT: report },
});
const spec = create(WorkerSpecSchema, {
  workerId: "w",
  accounts: [create(AccountSpecSchema, { id: "a", agent: "demo" })],
});
await driver.create(spec, 1, new AbortController().signal);
setInterval(() => {}, 1_000);
