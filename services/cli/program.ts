// The command line: which commands there are, and how a failure is told.
import { Command, CommanderError } from "commander";
import { asDrawbridgeError, DrawbridgeError } from "../kit/errors.ts";
import { version } from "../kit/version.ts";
import { clientRunner } from "./client/command.ts";
import { registerAccount } from "./commands/account.ts";
import { registerAdminKey } from "./commands/admin-key.ts";
import { registerBreaker } from "./commands/breaker.ts";
import { registerChannel } from "./commands/channel.ts";
import { registerCode } from "./commands/code.ts";
import { registerExplain } from "./commands/explain.ts";
import { registerKey } from "./commands/key.ts";
import { registerPlan } from "./commands/plan.ts";
import { registerPrice } from "./commands/price.ts";
import { registerStatus } from "./commands/status.ts";
import { registerTier } from "./commands/tier.ts";
import { registerUsage } from "./commands/usage.ts";
import { registerUser } from "./commands/user.ts";
import { registerWorker } from "./commands/worker.ts";
import { registerServe } from "./serve/command.ts";
import { OutputClosed, type Shell } from "./shell.ts";
import { registerUp } from "./up/command.ts";

const exitCodes = { done: 0, failed: 1, wrongUsage: 2 } as const;

/** Runs the command that the arguments name (without program and script); its exit code. */
export async function runProgram(args: readonly string[], shell: Shell): Promise<number> {
  try {
    return await parse(args, shell);
  } catch (error) {
    if (error instanceof OutputClosed) return exitCodes.done;
    shell.errors(`drawbridge: ${printable(messageOf(error))}\n`);
    return exitCodes.failed;
  }
}

async function parse(args: readonly string[], shell: Shell): Promise<number> {
  // The parser writes --help and --version at once and waits for nothing, so they are kept until it has ended.
  let help = "";
  try {
    await createProgram(shell, (text) => (help += text)).parseAsync([...args], { from: "user" });
    return exitCodes.done;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (help !== "") await shell.output.write(help);
    // Wrong usage has been told by then.
    return error.exitCode === 0 ? exitCodes.done : exitCodes.wrongUsage;
  }
}

function createProgram(shell: Shell, writeHelp: (text: string) => void): Command {
  const program = new Command("drawbridge")
    .description("A fleet of ACP agent accounts behind one OpenAI-compatible API.")
    .version(version)
    .exitOverride()
    .configureOutput({
      writeOut: writeHelp,
      writeErr: shell.errors,
      outputError: (text, write) => write(`drawbridge: ${printable(wrongUsage(text))}\n`),
    })
    .addHelpText("after", environmentHelp);
  program.commandsGroup("Run:");
  registerUp(program);
  registerServe(program);
  registerClients(program, shell);
  return program;
}

function registerClients(program: Command, shell: Shell): void {
  const run = clientRunner(shell);
  const { now } = shell;
  program.commandsGroup("Fleet:");
  registerStatus(program, run, shell);
  registerAccount(program, run, now);
  registerPlan(program, run, now);
  registerExplain(program, run, now);
  registerBreaker(program, run);
  program.commandsGroup("Users and money:");
  registerUser(program, run);
  registerKey(program, run, now);
  registerAdminKey(program, run);
  registerCode(program, run, now);
  registerUsage(program, run, now);
  registerTier(program, run);
  registerPrice(program, run);
  registerChannel(program, run);
  const worker = program.commands.find((command) => command.name() === "worker");
  if (worker) registerWorker(worker, run);
}

const environmentHelp = `
All but the commands that run something are clients of a running system, and so are \`worker list\` and \`worker drain\`:
  DRAWBRIDGE_URL        where it is (default: http://127.0.0.1:8080)
  DRAWBRIDGE_ADMIN_KEY  who asks (default: what \`drawbridge up\` wrote to .drawbridge/admin-key in this folder)

Exit codes: 0 done, 1 failed, 2 wrong usage.
`;

/** The parser's complaint, on one line. */
function wrongUsage(text: string): string {
  const line = text
    .replace(/^error: /, "")
    .trim()
    .replace(/\s*\n\s*/g, " ");
  return `${line}${/[.?)]$/.test(line) ? "" : "."} --help shows how.`;
}

/** Names in a message come from others, and may not steer the terminal. */
function printable(text: string): string {
  return text.replace(/[^\P{Cc}\n]+/gu, " ");
}

function messageOf(error: unknown): string {
  if (error instanceof DrawbridgeError) return error.message;
  const found = asDrawbridgeError(error);
  if (found.reason !== "INTERNAL") return found.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
