// drawbridge explain: why the scheduler would choose as it does.
import type { Command } from "commander";
import type { Decision } from "#gen/drawbridge/v1/scheduler_service";
import { type ClientFlags, clientCommand, type RunClient } from "../client/command.ts";
import { list } from "../input/arguments.ts";
import { tableText } from "../output/print.ts";
import { decisionRow } from "../output/rows.ts";
import { candidateView } from "../output/views.ts";

interface ExplainFlags extends ClientFlags {
  readonly model?: string;
  readonly request?: string;
  readonly exclude?: readonly string[];
}

export function registerExplain(program: Command, run: RunClient, now: () => number): void {
  clientCommand(program, {
    name: "explain",
    summary: "say which account a request would get, or got, and why",
    description:
      "With --model, scores every candidate for the model as they are now, and runs nothing. With --request, shows how each attempt of a request " +
      "that ran was decided, as long as the scheduler remembers it. The score is credits × (free slots + 1) / (queued + 1), unless the settings " +
      "name another policy.",
    examples: [
      "explain --model claude-sonnet-4.5",
      "explain --model claude-sonnet-4.5 --exclude kiro-1 --json",
      "explain --request req_4h6w0d2k",
    ],
  })
    .option("--model <name>", "the public name of the model")
    .option("--request <id>", "the id of a request that ran, as in the x-request-id header")
    .option("--exclude <accounts>", "leave these accounts out, as a retry would", list)
    .action(async ({ model, request, exclude = [], ...flags }: ExplainFlags, command: Command) => {
      if ((model === undefined) === (request === undefined)) {
        command.error("error: name either a model (--model) or a request that ran (--request)");
      }
      await run(flags, async ({ scheduler, print }) => {
        if (request === undefined) {
          const { candidates } = await scheduler.explain({ model: model ?? "", excludedAccountIds: [...exclude] });
          await print.list([candidates], candidateView);
          return;
        }
        const { decisions } = await scheduler.explain({ requestId: request });
        await print.object({ request_id: request, attempts: decisions.map(decisionRow) }, () =>
          decisions.map((decision, index) => decisionText(decision, index, now())).join("\n"),
        );
      });
    });
}

function decisionText(decision: Decision, index: number, now: number): string {
  const { candidates, candidatesLeftOut: leftOut } = decision;
  const more = leftOut > 0 ? `and ${leftOut} more\n` : "";
  return `attempt ${index + 1}, ${decision.attemptId}: ${decision.explanation}\n${tableText(candidates, candidateView, now)}${more}`;
}
