// drawbridge account: the fleet's accounts and their credits.
import type { Command } from "commander";
import { answered } from "../client/answered.ts";
import { type ClientFlags, clientCommand, commandGroup, type RunClient } from "../client/command.ts";
import { pages } from "../client/pages.ts";
import { creditsToGrant } from "../input/arguments.ts";
import { remarkLines } from "../output/remarks.ts";
import { accountRow } from "../output/rows.ts";
import { fieldLines } from "../output/table.ts";
import { accountView } from "../output/views.ts";

interface GrantFlags extends ClientFlags {
  readonly grantId?: string;
}

export function registerAccount(program: Command, run: RunClient, now: () => number): void {
  const account = commandGroup(program, "account", "accounts of the fleet and their credits");
  registerReading(account, run, now);

  clientCommand(account, {
    name: "grant",
    summary: "add credits to an account",
    examples: ["account grant kiro-1 500", "account grant kiro-1 12.5 --grant-id 2026-02"],
  })
    .argument("<id>", "the account")
    .argument("<credits>", "how many, such as 12.5", creditsToGrant)
    .option("--grant-id <id>", "names the grant: the same id grants once, however often the command is repeated")
    .action((id: string, millicredits: bigint, flags: GrantFlags) =>
      run(flags, async ({ fleet, print }) => {
        await fleet.grantCredits({ accountId: id, millicredits, grantId: flags.grantId ?? "" });
        const granted = await fleet.getAccount({ id });
        await print.one(answered(granted.account), accountView);
      }),
    );

  clientCommand(account, {
    name: "delete",
    summary: "delete an account",
    description:
      "Its workers finish what they have and end. One that is in the configuration file comes back with the next start.",
    examples: ["account delete kiro-1"],
  })
    .argument("<id>", "the account")
    .action((id: string, flags: ClientFlags) =>
      run(flags, async ({ fleet, print }) => {
        await fleet.deleteAccount({ id });
        await print.object({ id, deleted: true }, () => `Account ${id} is deleted; its workers finish and end.\n`);
      }),
    );
}

function registerReading(account: Command, run: RunClient, now: () => number): void {
  clientCommand(account, {
    name: "list",
    summary: "list accounts",
    description: "With --json, amounts are in thousandths of a credit, and `credits` is what is available.",
    examples: ["account list", "account list --json"],
  }).action((flags: ClientFlags) =>
    run(flags, async ({ fleet, print }) => {
      const accounts = pages(async (page) => {
        const { accounts: items, nextPageToken } = await fleet.listAccounts(page);
        return { items, nextPageToken };
      });
      await print.list(accounts, accountView);
    }),
  );

  clientCommand(account, { name: "get", summary: "show an account", examples: ["account get kiro-1"] })
    .argument("<id>", "the account")
    .action((id: string, flags: ClientFlags) =>
      run(flags, async ({ fleet, print }) => {
        const account = answered((await fleet.getAccount({ id })).account);
        const remarks = remarkLines(account);
        const text = () => fieldLines(accountView.columns, account, now()) + (remarks && `\n${remarks}`);
        await print.object(accountRow(account), text);
      }),
    );
}
