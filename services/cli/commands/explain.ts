// drawbridge explain: why the scheduler would choose as it does.
import type { Command } from "commander";
import { type ClientFlags, clientCommand, type RunClient } from "../client/command.ts";
import { list } from "../input/arguments.ts";
import { candidateView } from "../output/views.ts";

interface ExplainFlags extends ClientFlags {
  readonly model: string;
  readonly exclude?: readonly string[];
}

export function registerExplain(program: Command, run: RunClient): void {
  clientCommand(program, {
    name: "explain",
    summary: "say which account a request for a model would get, and why",
    description: "Scores every candidate and runs nothing. The score is credits × (free slots + 1) / (queued + 1).",
    examples: ["explain --model claude-sonnet-4.5", "explain --model claude-sonnet-4.5 --exclude kiro-1 --json"],
  })
    .requiredOption("--model <name>", "the public name of the model")
    .option("--exclude <accounts>", "leave these accounts out, as a retry would", list)
    .action((flags: ExplainFlags) =>
      run(flags, async ({ scheduler, print }) => {
        const excludedAccountIds = [...(flags.exclude ?? [])];
        const { candidates } = await scheduler.explain({ model: flags.model, excludedAccountIds });
        await print.list([candidates], candidateView);
      }),
    );
}
