// drawbridge tier: limits and price ratios of users.
import { create } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { type Budget, BudgetWindow, TierSchema } from "#gen/drawbridge/v1/access_service";
import { Priority } from "#gen/drawbridge/v1/scheduler_service";
import { answered } from "../client/answered.ts";
import { type ClientFlags, clientCommand, commandGroup, type RunClient } from "../client/command.ts";
import { budgetWindow, dollars, orNone, priority, ratio, whole } from "../input/arguments.ts";
import { tierView } from "../output/views.ts";

interface SetFlags extends ClientFlags {
  readonly rpm?: bigint;
  readonly tpm?: bigint;
  readonly concurrency?: bigint;
  readonly ratio?: bigint;
  readonly priority?: Priority;
  readonly budget?: bigint | "none";
  readonly per?: BudgetWindow;
}

/** What a new tier has where nothing else is said; as in the configuration file. */
const newTier = create(TierSchema, {
  requestsPerMinute: 600n,
  tokensPerMinute: 1_000_000n,
  concurrency: 32n,
  ratioPermille: 1_000n,
  priority: Priority.NORMAL,
});

export function registerTier(program: Command, run: RunClient): void {
  const tier = commandGroup(program, "tier", "limits and price ratios of users");

  clientCommand(tier, { name: "list", summary: "list tiers", examples: ["tier list"] }).action((flags: ClientFlags) =>
    run(flags, async ({ access, print }) => {
      const { tiers } = await access.listTiers({});
      await print.list([tiers], tierView);
    }),
  );

  clientCommand(tier, {
    name: "set",
    summary: "create or change a tier",
    description:
      "What is not named stays as it is; a new tier starts with 600 requests and 1000000 tokens a minute, 32 at a time, ratio 1. " +
      "A start brings the tiers of the configuration file back.",
    examples: ["tier set batch --rpm 60 --concurrency 4 --ratio 0.5"],
  })
    .argument("<name>", "the tier")
    .option("--rpm <count>", "requests a minute, for each user", whole)
    .option("--tpm <count>", "tokens a minute, for each user", whole)
    .option("--concurrency <count>", "requests at the same time, for each user", whole)
    .option("--ratio <number>", "prices are multiplied by this", ratio)
    .option("--priority <class>", "low, normal or high: who waits longer, and who is refused first", priority)
    .option("--budget <dollars>", 'what each user may spend, or "none"', orNone(dollars))
    .option("--per <window>", "when that begins anew: total, day, week or month (default: total)", budgetWindow)
    .action((name: string, flags: SetFlags) =>
      run(flags, async ({ access, print }) => {
        const { tiers } = await access.listTiers({});
        const before = tiers.find((each) => each.name === name) ?? newTier;
        const set = await access.setTier({
          tier: {
            name,
            requestsPerMinute: flags.rpm ?? before.requestsPerMinute,
            tokensPerMinute: flags.tpm ?? before.tokensPerMinute,
            concurrency: flags.concurrency ?? before.concurrency,
            ratioPermille: flags.ratio ?? before.ratioPermille,
            priority: flags.priority ?? before.priority,
            ...budgetField(flags, before.budget),
          },
        });
        await print.one(answered(set.tier), tierView);
      }),
    );
}

function budgetField({ budget, per }: SetFlags, before: Budget | undefined) {
  if (budget === "none") return {};
  if (budget === undefined) return before ? { budget: before } : {};
  return { budget: { micros: budget, window: per ?? BudgetWindow.TOTAL } };
}
