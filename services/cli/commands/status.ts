// drawbridge status: leader, workers and accounts, once or again and again.
import type { Command } from "commander";
import type { GetStatusResponse } from "#gen/drawbridge/v1/fleet_service";
import { type ClientFlags, clientCommand, type RunClient } from "../client/command.ts";
import { span } from "../input/arguments.ts";
import { statusRow } from "../output/rows.ts";
import { remarkLines } from "../output/remarks.ts";
import { tableText } from "../output/print.ts";
import { plainText } from "../output/text.ts";
import { accountView, workerView } from "../output/views.ts";
import type { Shell } from "../shell.ts";

interface StatusFlags extends ClientFlags {
  readonly watch?: true;
  /** In milliseconds. */
  readonly interval?: number;
}

const intervalDefaultMs = 2_000;
const clearScreen = "\u001b[H\u001b[2J";

export function registerStatus(program: Command, run: RunClient, { output, now, sleep }: Shell): void {
  clientCommand(program, {
    name: "status",
    summary: "show leader, workers and accounts, and what is wrong with them",
    examples: ["status", "status --watch", "status --json"],
  })
    .option("--watch", "show it again and again, until Ctrl-C; with --json a line each time")
    .option("--interval <duration>", `time between two looks (default: ${intervalDefaultMs / 1_000}s)`, span)
    .action((flags: StatusFlags) =>
      run(flags, async ({ fleet, print }) => {
        for (;;) {
          const status = await fleet.getStatus({});
          const before = flags.watch === true && output.terminal ? clearScreen : "";
          await print.object(statusRow(status), () => before + statusText(status, now()));
          if (flags.watch !== true) return;
          await sleep(flags.interval ?? intervalDefaultMs);
          if (!flags.json && !output.terminal) await output.write("\n");
        }
      }),
    );
}

function statusText({ leader, workers, accounts }: GetStatusResponse, now: number): string {
  const parts = [
    `leader  ${plainText(leader) || "none: nothing is started or replaced until a controller leads"}\n`,
    tableText(workers, workerView, now),
    tableText(accounts, accountView, now),
    accounts.map((account) => remarkLines(account)).join(""),
  ];
  return parts.filter((part) => part !== "").join("\n");
}
