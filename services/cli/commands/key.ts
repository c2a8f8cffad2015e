// drawbridge key: API keys.
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { type ApiKey, BudgetWindow, type RateLimits } from "#gen/drawbridge/v1/access_service";
import { answered } from "../client/answered.ts";
import { type ClientFlags, clientCommand, commandGroup, type RunClient, type Session } from "../client/command.ts";
import { pages } from "../client/pages.ts";
import { budgetWindow, dollars, list, momentAfter, nothingNamed, orNone, span, whole } from "../input/arguments.ts";
import { newKeyRow } from "../output/rows.ts";
import { keyView } from "../output/views.ts";

interface LimitFlags {
  readonly rpm?: bigint | "none";
  readonly tpm?: bigint | "none";
  readonly concurrency?: bigint | "none";
}

interface UpdateFlags extends ClientFlags, LimitFlags {
  readonly name?: string;
  readonly expires?: number | "none";
  readonly models?: readonly string[] | "none";
  readonly budget?: bigint | "none";
  readonly per?: BudgetWindow;
  readonly allow?: readonly string[] | "none";
}

interface RotateFlags extends ClientFlags {
  readonly grace?: number;
}

interface CreateFlags extends ClientFlags, LimitFlags {
  readonly per?: BudgetWindow;
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
    .option("--budget <dollars>", "what it may spend (default: as much as its user)", dollars)
    .option("--per <window>", "when the budget begins anew: total, day, week or month (default: total)", budgetWindow)
    .option("--rpm <count>", "requests a minute (default: as many as its user)", whole)
    .option("--tpm <count>", "tokens a minute (default: as many as its user)", whole)
    .option("--concurrency <count>", "requests at the same time (default: as many as its user)", whole)
    .option("--allow <networks>", "addresses that may use it, such as 10.0.0.0/8,::1 (default: all)", list)
    .action((flags: CreateFlags) =>
      run(flags, async ({ access, print }) => {
        const { key: record, secret } = await access.createApiKey({
          userId: flags.user,
          name: flags.name ?? "",
          models: [...(flags.models ?? [])],
          allowedAddresses: [...(flags.allow ?? [])],
          ...(flags.budget === undefined ? {} : { budgetMicros: flags.budget }),
          ...(flags.per === undefined ? {} : { budgetWindow: flags.per }),
          ...limitsField(flags),
          ...(flags.expires === undefined ? {} : { expiresAt: timestampFromMs(flags.expires) }),
        });
        const created = newKeyRow(answered(record), secret);
        await print.object(created, () => newKeyText(created));
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

  clientCommand(key, {
    name: "rotate",
    summary: "give an API key another secret",
    description:
      "The new key is shown this once. The one before works until the grace is over; id, budget, limits and usage stay.",
    examples: ["key rotate key_01h8… --grace 24h", "key rotate key_01h8…"],
  })
    .argument("<id>", "the key's id, as `key list` shows it")
    .option("--grace <duration>", "how long the one before still works (default: not at all)", span)
    .action((id: string, flags: RotateFlags) =>
      run(flags, async ({ access, print }) => {
        const { key: record, secret } = await access.rotateApiKey({
          id,
          ...(flags.grace === undefined ? {} : { grace: durationFromMs(flags.grace) }),
        });
        const rotated = newKeyRow(answered(record), secret);
        await print.object(rotated, () => newKeyText(rotated));
      }),
    );

  registerUpdate(key, run, now);
}

function registerUpdate(key: Command, run: RunClient, now: () => number): void {
  clientCommand(key, {
    name: "update",
    summary: "change an API key",
    description: 'What is not named stays as it is; "none" takes a limit away.',
    examples: ["key update key_01h8… --rpm 60 --concurrency 4", "key update key_01h8… --budget 5 --per month"],
  })
    .argument("<id>", "the key's id, as `key list` shows it")
    .option("--name <name>", "a label for people")
    .option("--expires <when>", "end after a duration such as 30d, or at an ISO time", orNone(momentAfter(now)))
    .option(
      "--models <names>",
      "models that it may use, with commas between them",
      orNone((text) => list(text)),
    )
    .option("--budget <dollars>", "what it may spend", orNone(dollars))
    .option("--per <window>", "when the budget begins anew: total, day, week or month (default: total)", budgetWindow)
    .option(
      "--allow <networks>",
      "addresses that may use it, such as 10.0.0.0/8,::1",
      orNone((text) => list(text)),
    )
    .option("--rpm <count>", "requests a minute", orNone(whole))
    .option("--tpm <count>", "tokens a minute", orNone(whole))
    .option("--concurrency <count>", "requests at the same time", orNone(whole))
    .action((id: string, flags: UpdateFlags) =>
      run(flags, async ({ access, print }) => {
        const limited = flags.rpm ?? flags.tpm ?? flags.concurrency;
        const named = { name: flags.name, models: flags.models, allowed_addresses: flags.allow };
        const paths = Object.entries({ ...named, budget: flags.budget, limits: limited, expires_at: flags.expires })
          .filter(([, value]) => value !== undefined)
          .map(([path]) => path);
        if (paths.length === 0) throw nothingNamed();
        const before = limited === undefined ? undefined : await findKey(access, id);
        const { key: updated } = await access.updateApiKey({
          updateMask: { paths },
          key: {
            id,
            name: flags.name ?? "",
            models: [...(given(flags.models) ?? [])],
            allowedAddresses: [...(given(flags.allow) ?? [])],
            ...budgetField(flags),
            ...limitsField(flags, before?.limits),
            ...(given(flags.expires) === undefined ? {} : { expiresAt: timestampFromMs(given(flags.expires) ?? 0) }),
          },
        });
        await print.one(answered(updated), keyView);
      }),
    );
}

function newKeyText({ id, key }: ReturnType<typeof newKeyRow>): string {
  return `id   ${id}\nkey  ${key}\nThe key is shown this once: only its hash is stored.\n`;
}

/** Limits are changed as a whole, so those that are not named are read first. */
async function findKey(access: Session["access"], id: string): Promise<ApiKey | undefined> {
  const all = pages(async (page) => {
    const { keys: items, nextPageToken } = await access.listApiKeys({ ...page });
    return { items, nextPageToken };
  });
  for await (const keys of all) {
    const found = keys.find((each) => each.id === id);
    if (found) return found;
  }
  return undefined;
}

/** What an option gives; undefined where it says "none". */
function given<T>(value: T | "none" | undefined): T | undefined {
  return value === "none" ? undefined : value;
}

function budgetField({ budget, per }: Pick<UpdateFlags, "budget" | "per">) {
  const micros = given(budget);
  return micros === undefined ? {} : { budget: { micros, window: per ?? BudgetWindow.TOTAL } };
}

function limitsField({ rpm, tpm, concurrency }: LimitFlags, before?: RateLimits) {
  const limit = (value: bigint | "none" | undefined, stands: bigint | undefined) =>
    value === undefined ? stands : given(value);
  const limits = {
    requestsPerMinute: limit(rpm, before?.requestsPerMinute),
    tokensPerMinute: limit(tpm, before?.tokensPerMinute),
    concurrency: limit(concurrency, before?.concurrency),
  };
  const named = Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined));
  return Object.keys(named).length === 0 ? {} : { limits: named };
}
