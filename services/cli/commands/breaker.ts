// drawbridge breaker: which accounts are kept out after failures.
import type { Command } from "commander";
import { answered } from "../client/answered.ts";
import { type ClientFlags, clientCommand, commandGroup, type RunClient } from "../client/command.ts";
import { breakerView } from "../output/views.ts";

export function registerBreaker(program: Command, run: RunClient): void {
  const breaker = commandGroup(program, "breaker", "circuit breakers, one for each account");

  clientCommand(breaker, {
    name: "list",
    summary: "list breakers",
    description: "An account that never failed has none, and counts as closed.",
    examples: ["breaker list"],
  }).action((flags: ClientFlags) =>
    run(flags, async ({ fleet, print }) => {
      const { breakers } = await fleet.listBreakers({});
      await print.list([breakers], breakerView);
    }),
  );

  clientCommand(breaker, {
    name: "reset",
    summary: "close the breaker of an account",
    description: "After what opened it is repaired, such as an agent that was not logged in.",
    examples: ["breaker reset kiro-1"],
  })
    .argument("<account>", "the account")
    .action((accountId: string, flags: ClientFlags) =>
      run(flags, async ({ fleet, print }) => {
        const reset = await fleet.resetBreaker({ accountId });
        await print.one(answered(reset.breaker), breakerView);
      }),
    );
}
