// drawbridge user: who pays, and their quota.
import type { Command } from "commander";
import { BudgetWindow } from "#gen/drawbridge/v1/access_service";
import { answered } from "../client/answered.ts";
import { type ClientFlags, clientCommand, commandGroup, type RunClient } from "../client/command.ts";
import { pages } from "../client/pages.ts";
import { budgetWindow, dollars, dollarsToGrant, nothingNamed, orNone } from "../input/arguments.ts";
import { userView } from "../output/views.ts";

interface CreateFlags extends ClientFlags, BudgetFlags {
  readonly id: string;
  readonly quota: bigint;
  readonly tier?: string;
}

interface BudgetFlags {
  readonly budget?: bigint | "none";
  readonly per?: BudgetWindow;
}

interface UpdateFlags extends ClientFlags, BudgetFlags {
  readonly tier?: string;
  readonly disable?: true;
  readonly enable?: true;
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
    .option("--budget <dollars>", "what they may spend, of what they have (default: all of it)", dollars)
    .option("--per <window>", "when that begins anew: total, day, week or month (default: total)", budgetWindow)
    .action((flags: CreateFlags) =>
      run(flags, async ({ access, print }) => {
        const request = { id: flags.id, tier: flags.tier ?? "", quotaMicros: flags.quota };
        const created = await access.createUser({ ...request, ...budgetField(flags) });
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

  clientCommand(user, {
    name: "update",
    summary: "change a user's tier, budget or state",
    description: "What is not named stays as it is. Requests that run keep what they were let in with.",
    examples: [
      "user update alice --tier gold",
      "user update alice --budget 5 --per month",
      "user update bob --disable",
    ],
  })
    .argument("<id>", "the user")
    .option("--tier <name>", "limits and price ratio")
    .option("--budget <dollars>", 'what they may spend, or "none"', orNone(dollars))
    .option("--per <window>", "when that begins anew: total, day, week or month (default: total)", budgetWindow)
    .option("--disable", "refuse their requests")
    .option("--enable", "take their requests again")
    .action((id: string, flags: UpdateFlags) =>
      run(flags, async ({ access, print }) => {
        const paths = [
          ...(flags.tier === undefined ? [] : ["tier"]),
          ...(flags.budget === undefined ? [] : ["budget"]),
          ...(flags.disable || flags.enable ? ["disabled"] : []),
        ];
        if (paths.length === 0) throw nothingNamed();
        const changes = { id, tier: flags.tier ?? "", disabled: flags.disable === true, ...budgetField(flags) };
        const updated = await access.updateUser({ user: changes, updateMask: { paths } });
        await print.one(answered(updated.user), userView);
      }),
    );

  clientCommand(user, {
    name: "delete",
    summary: "end a user and all of their keys",
    description: "Requests that run settle, what was used stays in the ledger, and the id is not given again.",
    examples: ["user delete alice"],
  })
    .argument("<id>", "the user")
    .action((id: string, flags: ClientFlags) =>
      run(flags, async ({ access, print }) => {
        await access.deleteUser({ id });
        await print.object({ id, deleted: true }, () => `User ${id} is deleted.\n`);
      }),
    );
}

function budgetField({ budget, per }: BudgetFlags) {
  if (budget === undefined || budget === "none") return {};
  return { budget: { micros: budget, window: per ?? BudgetWindow.TOTAL } };
}
