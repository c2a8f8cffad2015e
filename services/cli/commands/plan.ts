// drawbridge plan, drawbridge apply: from a configuration file to the running system.
import { equals } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { type Price, PriceSchema, type Tier, TierSchema } from "#gen/drawbridge/v1/access_service";
import { type ClientFlags, clientCommand, type RunClient, type Session } from "../client/command.ts";
import { tableText } from "../output/print.ts";
import { actionRow } from "../output/rows.ts";
import { plainText } from "../output/text.ts";
import { actionView } from "../output/views.ts";

interface PlanFlags extends ClientFlags {
  readonly file?: string;
}

interface ApplyFlags extends ClientFlags {
  readonly file: string;
}

export function registerPlan(program: Command, run: RunClient, now: () => number): void {
  clientCommand(program, {
    name: "plan",
    summary: "say what the controller would do now, or after `apply` of a file",
    description: "Changes nothing.",
    examples: ["plan", "plan -f drawbridge.yaml", "plan -f drawbridge.yaml --json"],
  })
    .option("-f, --file <file>", "a configuration file (default: the accounts as they are)")
    .action(async (flags: PlanFlags) => {
      const wanted = flags.file === undefined ? undefined : await readWanted(flags.file);
      await run(flags, (session) => plan(session, wanted, now));
    });

  clientCommand(program, {
    name: "apply",
    summary: "make accounts, tiers and prices of the running system those of a file",
    description:
      "They then are as after a start with that file: accounts that came from a file and are not in this one are deleted, and the tier named default has " +
      "its built-in limits unless the file says others. Accounts made through the API, and other tiers and prices that the file does not name, stay. " +
      "Everything else in the file concerns processes and takes effect at their next start.",
    examples: ["apply -f drawbridge.yaml"],
  })
    .requiredOption("-f, --file <file>", "the configuration file")
    .action(async (flags: ApplyFlags) => {
      const wanted = await readWanted(flags.file);
      await run(flags, (session) => apply(session, wanted));
    });
}

type Wanted = Awaited<ReturnType<typeof readWanted>>;

/** Only the file speaks: the environment of this process is not that of the system. */
async function readWanted(file: string) {
  const { loadConfiguration } = await import("../../configuration.ts");
  const { configuration } = await loadConfiguration({ file, environment: {} });
  const { tiers, prices } = configuration.gateway;
  return { file, accounts: [...configuration.accounts], tiers, prices };
}

async function plan({ access, fleet, print }: Session, wanted: Wanted | undefined, now: () => number): Promise<void> {
  const planned = await fleet.plan(wanted ? { accounts: { specs: wanted.accounts } } : {});
  const { actions, created, updated, deleted } = planned;
  const money = wanted ? await moneyChanges(access, wanted) : { tiers: [], prices: [] };
  const names = moneyNames(money);
  await print.object({ actions: actions.map(actionRow), created, updated, deleted, ...names }, () => {
    const others = nameLines({
      "accounts that are new": created,
      "accounts that change": updated,
      "accounts that go": deleted,
      "tiers that change": names.tiers,
      "prices that change": names.prices,
    });
    return tableText(actions, actionView, now()) + others;
  });
}

/** Accounts first: the controller checks all of them before it changes anything. */
async function apply({ access, fleet, print }: Session, wanted: Wanted): Promise<void> {
  const { created, updated, deleted, unchanged } = await fleet.applyAccounts({ specs: wanted.accounts });
  const money = await moneyChanges(access, wanted);
  for (const tier of money.tiers) await access.setTier({ tier });
  for (const price of money.prices) await access.setPrice({ price });
  const { tiers, prices } = moneyNames(money);
  await print.object({ created, updated, deleted, unchanged, tiers, prices }, () => {
    const lines = nameLines({ created, updated, deleted, "tiers set": tiers, "prices set": prices });
    return lines || `Nothing to change: everything is as in ${wanted.file}.\n`;
  });
}

interface Money {
  readonly tiers: readonly Tier[];
  readonly prices: readonly Price[];
}

/** Those of the file that the system does not have so. */
async function moneyChanges(access: Session["access"], wanted: Wanted): Promise<Money> {
  const [{ tiers }, { prices }] = await Promise.all([access.listTiers({}), access.listPrices({})]);
  return {
    tiers: wanted.tiers.filter((tier) => !tiers.some((each) => equals(TierSchema, each, tier))),
    prices: wanted.prices.filter((price) => !prices.some((each) => equals(PriceSchema, each, price))),
  };
}

function moneyNames({ tiers, prices }: Money) {
  return { tiers: tiers.map(({ name }) => name), prices: prices.map(({ model }) => model) };
}

/** A line for each list that is not empty. */
function nameLines(lists: Readonly<Record<string, readonly string[]>>): string {
  return Object.entries(lists)
    .filter(([, names]) => names.length > 0)
    .map(([title, names]) => `${title}: ${names.map(plainText).join(", ")}\n`)
    .join("");
}
