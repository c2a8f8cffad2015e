// A stand-in for the worker program in the drivers' contract: does what its account's environment says, and tells what it was given.
import { writeFileSync } from "node:fs";
import { fromJsonString } from "@bufbuild/protobuf";
import { WorkerSpecSchema } from "#gen/drawbridge/v1/account";

const spec = fromJsonString(WorkerSpecSchema, process.env["DRAWBRIDGE_WORKER_SPEC"] ?? "{}");
const wish = (name: string) => spec.accounts[0]?.env[name]?.source.value as string | undefined;

const report = wish("REPORT");
if (report) {
  const told = { arguments: process.argv.slice(2), environment: process.env, pid: process.pid };
  writeFileSync(report, JSON.stringify(told));
}
const code = wish("EXIT");
if (code !== undefined) process.exit(Number(code));
// A stubborn one hears nothing.
process.on("SIGTERM", () => {
  if (wish("STUBBORN") === undefined) process.exit(0);
});
if (process.env["DRAWBRIDGE_DETACHED"] !== "1" && wish("STUBBORN") === undefined) {
  process.stdin.on("end", () => process.exit(0)).resume();
}
setInterval(() => {}, 1_000);
