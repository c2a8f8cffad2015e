// Runs a command to its end, for what it says: bounded in time and in text, and gone afterwards with all that it started.
import type { Clock } from "../../kit/clock.ts";
import { type AgentProcessOptions, startAgentProcess } from "./agent-process.ts";
import { createTextRing } from "./text-ring.ts";

export interface CommandResult {
  readonly late: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

export type CommandOptions = Omit<AgentProcessOptions, "stderrBytesMax"> & {
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
};

const textBytesMax = 64 * 1024;

export async function runCommand(options: CommandOptions): Promise<CommandResult> {
  const process = startAgentProcess({ ...options, stderrBytesMax: textBytesMax });
  const stdout = createTextRing(textBytesMax);
  process.stdout.on("data", (chunk: Buffer) => stdout.push(chunk)).on("error", () => {});
  process.stdin.end();
  const { promise: given, resolve: giveUp } = Promise.withResolvers<string>();
  let late = false;
  using _ = options.clock.after(options.timeoutMs, () => {
    late = true;
    giveUp("");
  });
  const onAbort = () => giveUp("");
  options.signal.addEventListener("abort", onAbort, { once: true });
  await Promise.race([process.ended, given]);
  options.signal.removeEventListener("abort", onAbort);
  await process.stop();
  return { late, stdout: stdout.text(), stderr: process.stderr() };
}
