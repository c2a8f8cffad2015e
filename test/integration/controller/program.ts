// A stand-in for the worker program: tells on standard output what it was given, and ends when its standard input does.
import { writeFileSync } from "node:fs";

const report = { arguments: process.argv.slice(2), environment: process.env };
process.stdout.write(`${JSON.stringify(report)}\n`);
if (process.env["REPORT"]) writeFileSync(process.env["REPORT"], JSON.stringify({ ...report, pid: process.pid }));
if (process.env["WRITE_BYTES"]) process.stdout.write("x".repeat(Number(process.env["WRITE_BYTES"])));
// A stubborn one neither hears SIGTERM nor looks at its standard input.
if (process.env["STUBBORN"]) {
  process.on("SIGTERM", () => {});
  setInterval(() => {}, 1_000);
} else {
  process.on("SIGTERM", () => process.exit(0));
  process.stdin.on("end", () => process.exit(0)).resume();
}
