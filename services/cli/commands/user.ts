// drawbridge user: who pays, and their quota.
import type { Command } from "commander";
import { answered } from "../client/answered.ts";
import { type ClientFlags, clientCommand, commandGroup, type RunClient } from "../client/command.ts";
import { pages } from "../client/pages.ts";
import { dollars, dollarsToGrant } from "../input/arguments.ts";
import { userView } from "../output/views.ts";

interface CreateFlags extends ClientFlags {
  readonly id: string;
  readonly quota: bigint;
  readonly tier?: string;
}

interface GrantFlags extends ClientFlags {
  readonly grantId?: string;
}

export function registerUser(program: Command, run: RunClient): void {
  const user = commandGroup(program, "user", "users and their quota");

  clientCommand(user, {
    name: "create",
    summary: "create a user and grant the quota",
    examples: ["user create --id alice --quota 1.50", "user create --id ci --quota 20 --tier batch --json"],
  })
    .requiredOption("--id <id>", "names the user")
    .requiredOption("--quota <dollars>", "the first grant, such as 1.50", dollars)
    .option("--tier <name>", "limits and price ratio (default: the tier named default)")
    .action((flags: CreateFlags) =>
      run(flags, async ({ access, print }) => {
        const request = { id: flags.id, tier: flags.tier ?? "", quotaMicros: flags.quota };
        const created = await access.createUser(request);
        await print.one(answered(created.user), userView);
      }),
    );

  clientCommand(user, { name: "get", summary: "show a user", examples: ["user get alice", "user get alice --json"] })
    .argument("<id>", "the user")
    .action((id: string, flags: ClientFlags) =>
      run(flags, async ({ access, print }) => {
        const found = await access.getUser({ id });
        await print.one(answered(found.user), userView);
      }),
    );

  clientCommand(user, { name: "list", summary: "list users", examples: ["user list", "user list --json"] }).action(
    (flags: ClientFlags) =>
      run(flags, async ({ access, print }) => {
        const users = pages(async (page) => {
          const { users: items, nextPageToken } = await access.listUsers(page);
          return { items, nextPageToken };
        });
        await print.list(users, userView);
      }),
  );

  clientCommand(user, {
    name: "grant",
    summary: "add to a user's quota",
    examples: ["user grant alice 0.50", "user grant alice 10 --grant-id invoice-2041"],
  })
    .argument("<id>", "the user")
    .argument("<dollars>", "how much, such as 0.50", dollarsToGrant)
    .option("--grant-id <id>", "names the grant: the same id grants once, however often the command is repeated")
    .action((id: string, quotaMicros: bigint, flags: GrantFlags) =>
      run(flags, async ({ access, print }) => {
        const granted = await access.grantQuota({ userId: id, quotaMicros, grantId: flags.grantId ?? "" });
        await print.one(answered(granted.user), userView);
      }),
    );
}
