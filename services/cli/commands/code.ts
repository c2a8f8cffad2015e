// drawbridge code: redemption codes.
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { answered } from "../client/answered.ts";
import { type ClientFlags, clientCommand, commandGroup, type RunClient } from "../client/command.ts";
import { pages } from "../client/pages.ts";
import { dollarsToGrant, momentAfter, wholePositive } from "../input/arguments.ts";
import { codeRow } from "../output/rows.ts";
import { codeView, userView } from "../output/views.ts";

interface CreateFlags extends ClientFlags {
  readonly count?: bigint;
  readonly worth: bigint;
  readonly name?: string;
  readonly expires?: number;
}

interface RedeemFlags extends ClientFlags {
  readonly user: string;
}

export function registerCode(program: Command, run: RunClient, now: () => number): void {
  const group = commandGroup(program, "code", "redemption codes");

  clientCommand(group, {
    name: "create",
    summary: "make redemption codes",
    description: "The codes are shown this once: only their hashes are stored. Each is worth its amount once.",
    examples: ["code create --worth 5", "code create --count 100 --worth 5 --expires 90d --name spring --json"],
  })
    .requiredOption("--worth <dollars>", "what each is worth, such as 5", dollarsToGrant)
    .option("--count <count>", "how many, up to 1000 (default: 1)", wholePositive)
    .option("--name <name>", "a label of the batch")
    .option(
      "--expires <when>",
      "end after a duration such as 90d, or at an ISO time (default: never)",
      momentAfter(now),
    )
    .action((flags: CreateFlags) =>
      run(flags, async ({ access, print }) => {
        const { codes } = await access.createCodes({
          count: Number(flags.count ?? 1n),
          quotaMicros: flags.worth,
          name: flags.name ?? "",
          ...(flags.expires === undefined ? {} : { expiresAt: timestampFromMs(flags.expires) }),
        });
        const rows = codes.map(({ record, code }) => ({ ...codeRow(answered(record)), code }));
        await print.object(rows, () => codes.map(({ code }) => `${code}\n`).join(""));
      }),
    );

  clientCommand(group, {
    name: "list",
    summary: "list redemption codes, without the codes themselves",
    examples: ["code list", "code list --json"],
  }).action((flags: ClientFlags) =>
    run(flags, async ({ access, print }) => {
      const codes = pages(async (page) => {
        const { codes: items, nextPageToken } = await access.listCodes(page);
        return { items, nextPageToken };
      });
      await print.list(codes, codeView);
    }),
  );

  clientCommand(group, {
    name: "redeem",
    summary: "grant a user what a code is worth",
    examples: ["code redeem DB-ABCDEFGH-… --user alice"],
  })
    .argument("<code>", "the code itself")
    .requiredOption("--user <id>", "who gets it")
    .action((code: string, flags: RedeemFlags) =>
      run(flags, async ({ access, print }) => {
        const { user } = await access.redeemCode({ code, userId: flags.user });
        await print.one(answered(user), userView);
      }),
    );
}
