// drawbridge usage: the ledger.
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { type ClientFlags, clientCommand, type RunClient } from "../client/command.ts";
import { pages } from "../client/pages.ts";
import { type UsageFormat, usageText } from "../../client/usage-export.ts";
import { momentBefore, usageFormat, wholePositive } from "../input/arguments.ts";
import { usageView } from "../output/views.ts";

interface UsageFlags extends ClientFlags {
  readonly user?: string;
  readonly key?: string;
  readonly model?: string;
  readonly since?: number;
  readonly until?: number;
  readonly limit?: bigint;
  readonly format?: UsageFormat;
}

export function registerUsage(program: Command, run: RunClient, now: () => number): void {
  clientCommand(program, {
    name: "usage",
    summary: "list settled requests, the newest first",
    description: "With --json, cost is in millionths of a dollar and credits in thousandths.",
    examples: [
      "usage --user alice --since 1h",
      "usage --since 30d --format csv > usage.csv",
      "usage --model claude-sonnet-4.5 --since 2026-01-31 --limit 100 --json",
    ],
  })
    .option("--user <id>", "of this user (default: of all)")
    .option("--key <id>", "with this API key, by its id")
    .option("--model <name>", "for this model")
    .option("--since <when>", "so long ago at most, such as 1h, or from an ISO time on", momentBefore(now))
    .option("--until <when>", "before so long ago, or before an ISO time", momentBefore(now))
    .option("--format <format>", "csv or jsonl, for spreadsheets and programs, as it comes", usageFormat)
    .option("--limit <count>", "at most so many (default: all)", wholePositive)
    .action((flags: UsageFlags) =>
      run(flags, async ({ access, print }) => {
        const request = {
          userId: flags.user ?? "",
          keyId: flags.key ?? "",
          model: flags.model ?? "",
          ...(flags.since === undefined ? {} : { since: timestampFromMs(flags.since) }),
          ...(flags.until === undefined ? {} : { until: timestampFromMs(flags.until) }),
        };
        const limit = flags.limit === undefined ? undefined : Number(flags.limit);
        const entries = pages(async (page) => {
          const { entries: items, nextPageToken } = await access.listUsage({ ...request, ...page });
          return { items, nextPageToken };
        }, limit);
        if (flags.format === undefined) await print.list(entries, usageView);
        else await print.text(usageText(entries, flags.format));
      }),
    );
}
