// drawbridge tier: limits and price ratios of users.
import type { Command } from "commander";
import { answered } from "../client/answered.ts";
import { type ClientFlags, clientCommand, commandGroup, type RunClient } from "../client/command.ts";
import { ratio, whole } from "../input/arguments.ts";
import { tierView } from "../output/views.ts";

interface SetFlags extends ClientFlags {
  readonly rpm?: bigint;
  readonly tpm?: bigint;
  readonly concurrency?: bigint;
  readonly ratio?: bigint;
}

/** What a new tier has where nothing else is said; as in the configuration file. */
const newTier = { requestsPerMinute: 600n, tokensPerMinute: 1_000_000n, concurrency: 32n, ratioPermille: 1_000n };

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
          },
        });
        await print.one(answered(set.tier), tierView);
      }),
    );
}
