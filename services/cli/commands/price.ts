// drawbridge price: what models cost.
import type { Command } from "commander";
import { answered } from "../client/answered.ts";
import { type ClientFlags, clientCommand, commandGroup, type RunClient } from "../client/command.ts";
import { dollars } from "../input/arguments.ts";
import { priceView } from "../output/views.ts";

interface SetFlags extends ClientFlags {
  readonly input: bigint;
  readonly output: bigint;
  readonly cachedInput?: bigint;
  readonly request?: bigint;
}

export function registerPrice(program: Command, run: RunClient): void {
  const price = commandGroup(program, "price", "what models cost");

  clientCommand(price, {
    name: "list",
    summary: "list prices",
    description: "In dollars per million tokens; with --json, in millionths of a dollar per million tokens.",
    examples: ["price list"],
  }).action((flags: ClientFlags) =>
    run(flags, async ({ access, print }) => {
      const { prices } = await access.listPrices({});
      await print.list([prices], priceView);
    }),
  );

  clientCommand(price, {
    name: "set",
    summary: "set the price of a model",
    description:
      "It replaces the one before as a whole. Requests that run keep theirs. A start brings the prices of the configuration file back.",
    examples: ["price set claude-sonnet-4.5 --input 3.00 --output 15.00 --cached-input 0.30"],
  })
    .argument("<model>", "the public name of the model")
    .requiredOption("--input <dollars>", "per million input tokens", dollars)
    .requiredOption("--output <dollars>", "per million output tokens", dollars)
    .option("--cached-input <dollars>", "per million cached input tokens (default: as input)", dollars)
    .option("--request <dollars>", "for each request that is paid at all (default: nothing)", dollars)
    .action((model: string, flags: SetFlags) =>
      run(flags, async ({ access, print }) => {
        const set = await access.setPrice({
          price: {
            model,
            inputMicrosPerMillion: flags.input,
            outputMicrosPerMillion: flags.output,
            requestMicros: flags.request ?? 0n,
            ...(flags.cachedInput === undefined ? {} : { cachedInputMicrosPerMillion: flags.cachedInput }),
          },
        });
        await print.one(answered(set.price), priceView);
      }),
    );
}
