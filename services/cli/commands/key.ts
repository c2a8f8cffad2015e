// drawbridge key: API keys.
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { answered } from "../client/answered.ts";
import { type ClientFlags, clientCommand, commandGroup, type RunClient } from "../client/command.ts";
import { pages } from "../client/pages.ts";
import { dollars, list, momentAfter } from "../input/arguments.ts";
import { newKeyRow } from "../output/rows.ts";
import { keyView } from "../output/views.ts";

interface CreateFlags extends ClientFlags {
  readonly user: string;
  readonly name?: string;
  readonly expires?: number;
  readonly models?: readonly string[];
  readonly budget?: bigint;
  readonly allow?: readonly string[];
}

interface ListFlags extends ClientFlags {
  readonly user?: string;
}

export function registerKey(program: Command, run: RunClient, now: () => number): void {
  const key = commandGroup(program, "key", "API keys of users");

  clientCommand(key, {
    name: "create",
    summary: "make an API key",
    description: "The key is shown this once: only its hash is stored.",
    examples: [
      "key create --user alice",
      "key create --user alice --name ci --expires 30d --budget 1.00 --models a,b --allow 10.0.0.0/8",
    ],
  })
    .requiredOption("--user <id>", "whose")
    .option("--name <name>", "a label for people")
    .option(
      "--expires <when>",
      "end after a duration such as 30d, or at an ISO time (default: never)",
      momentAfter(now),
    )
    .option("--models <names>", "models that it may use, with commas between them (default: all)", list)
    .option("--budget <dollars>", "what it may spend in all (default: as much as its user)", dollars)
    .option("--allow <networks>", "addresses that may use it, such as 10.0.0.0/8,::1 (default: all)", list)
    .action((flags: CreateFlags) =>
      run(flags, async ({ access, print }) => {
        const { key: record, secret } = await access.createApiKey({
          userId: flags.user,
          name: flags.name ?? "",
          models: [...(flags.models ?? [])],
          allowedAddresses: [...(flags.allow ?? [])],
          ...(flags.budget === undefined ? {} : { budgetMicros: flags.budget }),
          ...(flags.expires === undefined ? {} : { expiresAt: timestampFromMs(flags.expires) }),
        });
        const created = newKeyRow(answered(record), secret);
        const text = `id   ${created.id}\nkey  ${created.key}\nThe key is shown this once: only its hash is stored.\n`;
        await print.object(created, () => text);
      }),
    );

  clientCommand(key, {
    name: "list",
    summary: "list API keys, without the keys themselves",
    examples: ["key list", "key list --user alice --json"],
  })
    .option("--user <id>", "of this user (default: of all)")
    .action((flags: ListFlags) =>
      run(flags, async ({ access, print }) => {
        const keys = pages(async (page) => {
          const { keys: items, nextPageToken } = await access.listApiKeys({ userId: flags.user ?? "", ...page });
          return { items, nextPageToken };
        });
        await print.list(keys, keyView);
      }),
    );

  clientCommand(key, {
    name: "revoke",
    summary: "end an API key",
    description: "Requests that run finish.",
    examples: ["key revoke key_01h8…"],
  })
    .argument("<id>", "the key's id, as `key list` shows it")
    .action((id: string, flags: ClientFlags) =>
      run(flags, async ({ access, print }) => {
        const { key: revoked } = await access.revokeApiKey({ id });
        await print.one(answered(revoked), keyView);
      }),
    );
}
