// drawbridge status: leader, workers and accounts, once or again and again.
import type { Command } from "commander";
import { type ClientFlags, clientCommand, type RunClient } from "../client/command.ts";
import { span } from "../input/arguments.ts";
import { statusRow } from "../output/rows.ts";
import { statusText } from "../output/status-text.ts";
import type { Shell } from "../shell.ts";
import { watchStatus } from "./watch-status.ts";

interface StatusFlags extends ClientFlags {
  readonly watch?: true;
  /** In milliseconds. */
  readonly interval?: number;
}

const intervalDefaultMs = 2_000;

export function registerStatus(program: Command, run: RunClient, shell: Shell): void {
  const { now } = shell;
  clientCommand(program, {
    name: "status",
    summary: "show leader, workers and accounts, and what is wrong with them",
    examples: ["status", "status --watch", "status --json"],
  })
    .option("--watch", "show it again and again with what happens, until Ctrl-C; with --json a line each time")
    .option("--interval <duration>", `time between two looks (default: ${intervalDefaultMs / 1_000}s)`, span)
    .action((flags: StatusFlags) =>
      run(flags, async ({ fleet, print }) => {
        if (flags.watch === true) {
          await watchStatus({ fleet, print, shell, intervalMs: flags.interval ?? intervalDefaultMs });
          return;
        }
        const status = await fleet.getStatus({});
        await print.object(statusRow(status), () => statusText(status, now()));
      }),
    );
}
