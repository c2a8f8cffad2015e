// What all client commands have in common: their flags, and how they get from flags to clients.
import { ConnectError } from "@connectrpc/connect";
import { type Command, Option } from "commander";
import { span } from "../input/arguments.ts";
import { createPrinter, type Printer } from "../output/print.ts";
import type { Shell } from "../shell.ts";
import type { Clients } from "./connect.ts";
import { clientFailure } from "./failures.ts";
import { defaultUrl, findTarget, type TargetFlags } from "./target.ts";

const timeoutDefaultMs = 30_000;

export interface ClientFlags extends TargetFlags {
  readonly json?: true;
  /** In milliseconds. */
  readonly timeout?: number;
}

export interface Session extends Clients {
  readonly print: Printer;
}

/** Does a command's work with clients of the system that its flags name. */
export type RunClient = (flags: ClientFlags, work: (session: Session) => Promise<void>) => Promise<void>;

export function clientRunner(shell: Shell): RunClient {
  return async (flags, work) => {
    const target = await findTarget(flags, shell);
    const timeoutMs = flags.timeout ?? timeoutDefaultMs;
    // The network comes last: --help and wrong usage need none of it.
    const { connect } = await import("./connect.ts");
    const print = createPrinter({ output: shell.output, json: flags.json === true, now: shell.now });
    try {
      await work({ ...connect(target, timeoutMs), print });
    } catch (error) {
      throw error instanceof ConnectError ? clientFailure(error, target, timeoutMs) : error;
    }
  };
}

export interface CommandText {
  /** Name and arguments, such as "get <id>". */
  readonly name: string;
  readonly summary: string;
  /** More than the summary, where there is more to say. */
  readonly description?: string;
  /** Command lines, without "drawbridge". */
  readonly examples: readonly string[];
}

/** Adds a command that talks to a running system. */
export function clientCommand(parent: Command, { name, summary, description, examples }: CommandText): Command {
  const command = parent
    .command(name)
    .summary(summary)
    .description(`${sentence(summary)}${description === undefined ? "" : ` ${description}`}`)
    .addHelpText("after", commonHelp)
    .addHelpText("after", `Examples:\n${examples.map((example) => `  drawbridge ${example}\n`).join("")}`);
  for (const option of commonOptions()) command.addOption(option.hideHelp());
  return command;
}

function commonOptions(): Option[] {
  return [
    new Option("--json"),
    new Option("--url <url>"),
    new Option("--admin-key-file <file>"),
    new Option("--timeout <duration>").argParser(span),
  ];
}

/** What a command is asked about first are its own options, so these stand after them. */
const commonHelp = `
Options of all client commands:
  --json                   print JSON, for scripts
  --url <url>              where the system is (default: DRAWBRIDGE_URL, else
                           ${defaultUrl})
  --admin-key-file <file>  file with the admin key (default: DRAWBRIDGE_ADMIN_KEY,
                           else .drawbridge/admin-key)
  --timeout <duration>     time for an answer (default: ${timeoutDefaultMs / 1_000}s)
`;

/** Adds commands about one kind of object. */
export function commandGroup(parent: Command, name: string, summary: string): Command {
  return parent.command(name).summary(summary).description(sentence(summary));
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
