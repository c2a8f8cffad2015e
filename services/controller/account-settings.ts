// `accounts` and `agents` of the configuration file: their schemas, and the messages that they become.
import { create } from "@bufbuild/protobuf";
import { z } from "zod";
import {
  type AccountSpec,
  AccountSpecSchema,
  type AgentSpec,
  AgentSpecSchema,
  type EnvValue,
  EnvValueSchema,
  KubernetesSecretKeySchema,
} from "#gen/drawbridge/v1/account";
import { isPlainSecret, secretReference } from "./secrets.ts";

const accountsMax = 10_000;
const agentsMax = 1_000;
const pairsMax = 256;
/** The largest amount of credits: its thousandths are the largest exact whole number. */
const creditsMax = Number.MAX_SAFE_INTEGER / 1_000;

/** An amount in credits, down to thousandths. */
const credits = z
  .number()
  .min(0)
  .max(creditsMax)
  .refine((value) => Math.abs(value * 1_000 - Math.round(value * 1_000)) < 1e-6, "expected at most three decimals");

const secretName = z.string().min(1).max(253);

/** A value, or where to find one. References are resolved where they are used and never stored. */
const envValue = z.union(
  [
    z.string(),
    z.number(),
    z.boolean(),
    z.strictObject({ from_env: z.string().min(1) }),
    z.strictObject({ from_file: z.string().min(1) }),
    z.strictObject({ from_secret: z.strictObject({ name: secretName, key: secretName }) }),
  ],
  {
    error:
      "expected a text, a number, true or false, { from_env: VARIABLE }, { from_file: PATH } or { from_secret: { name: SECRET, key: KEY } }",
  },
);

const envName = z
  .string()
  .max(256)
  .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'expected a variable name such as "API_KEY"');

const env = z
  .record(envName, envValue)
  .superRefine((values, context) => {
    for (const [name, value] of Object.entries(values)) {
      if (typeof value === "object" || !isPlainSecret(name, String(value))) continue;
      const message = `expected a reference, since a secret is never stored: ${secretReference}`;
      context.addIssue({ code: "custom", path: [name], message });
    }
  })
  .refine((values) => Object.keys(values).length <= pairsMax, `expected at most ${pairsMax} variables`);

const modelName = z.string().min(1).max(256);

/** Public name to the agent's own name; a list gives both the same name. */
const models = z
  .union([z.record(modelName, modelName), z.array(modelName)], {
    error: "expected names such as { public-name: name-of-the-agent }, or a list of names",
  })
  .transform((value) => (Array.isArray(value) ? Object.fromEntries(value.map((name) => [name, name])) : value))
  .refine((value) => Object.keys(value).length > 0, "expected at least one model")
  .refine((value) => Object.keys(value).length <= pairsMax, `expected at most ${pairsMax} models`);

const workers = z
  .strictObject({
    /** Workers that are kept running while there are credits. 0: none until a request needs one. Default 1. */
    min: z.int().min(0).max(1_000).optional(),
    /** Workers at most, when requests queue up. Default: as `min`, at least 1. */
    max: z.int().min(1).max(1_000).optional(),
  })
  .transform(({ min, max }) => ({ min: min ?? 1, max: max ?? Math.max(1, min ?? 1) }))
  .refine(({ min, max }) => min <= max, { path: ["min"], error: "expected at most as many as workers.max" });

const account = z.strictObject({
  /** Names the account everywhere. */
  id: z
    .string()
    .min(1)
    .max(128)
    .refine((id) => !hasControlCharacters(id), "expected a text without control characters"),
  /** The agent profile: a built-in one, or one of `agents`. */
  agent: z.string().min(1).max(64),
  /** What it serves. */
  models,
  /** Granted when the account is created, in credits. Default 1000. */
  credits: credits.default(1_000),
  /** What a prompt takes where the agent reports no credits, in credits. 0: nothing, and credits never run out. Default 1. */
  cost_per_request: credits.default(1),
  /** Prompts at a time, per worker. Default 1. */
  slots: z.int().min(1).max(1_024).default(1),
  /** Waiting prompts, per worker. Default 16. */
  queue: z.int().min(0).max(100_000).default(16),
  /** How many workers. Default one. */
  workers: workers.prefault({}),
  /** The agent's environment beyond its profile's own. Default none. */
  env: env.default({}),
  /** No new prompts; what runs finishes. Default false. */
  drained: z.boolean().default(false),
});

const agent = z.strictObject({
  /** Program and arguments; speaks ACP on its standard input and output. */
  command: z.array(z.string().min(1).max(4_096)).min(1).max(256),
  /** Its environment. Default none. */
  env: env.default({}),
});

/** `accounts`: the desired state. Default none. */
export const accountsSetting = z
  .array(account)
  .max(accountsMax)
  .superRefine((accounts, context) => {
    const seen = new Map<string, number>();
    for (const [index, { id }] of accounts.entries()) {
      const first = seen.get(id);
      if (first === undefined) seen.set(id, index);
      else
        context.addIssue({
          code: "custom",
          path: [index, "id"],
          message: `"${id}" is the id of accounts[${first}] too`,
        });
    }
  })
  .default([]);

/** `agents`: profiles beyond the built-in ones, by name. Default none. */
export const agentsSetting = z
  .record(z.string().min(1).max(64), agent)
  .refine((agents) => Object.keys(agents).length <= agentsMax, `expected at most ${agentsMax} agents`)
  .default({});

export function accountSpecs(accounts: z.output<typeof accountsSetting>): AccountSpec[] {
  return accounts.map((each) =>
    create(AccountSpecSchema, {
      id: each.id,
      agent: each.agent,
      models: { ...each.models },
      initialMillicredits: millicredits(each.credits),
      millicreditsPerRequest: millicredits(each.cost_per_request),
      slots: each.slots,
      queue: each.queue,
      workers: { ...each.workers },
      env: envValues(each.env),
      drained: each.drained,
    }),
  );
}

export function agentSpecs(agents: z.output<typeof agentsSetting>): AgentSpec[] {
  return Object.entries(agents).map(([name, each]) =>
    create(AgentSpecSchema, { name, command: [...each.command], env: envValues(each.env) }),
  );
}

function millicredits(amount: number): bigint {
  return BigInt(Math.round(amount * 1_000));
}

function envValues(values: z.output<typeof env>): Record<string, EnvValue> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, envMessage(value)]));
}

function envMessage(value: z.output<typeof envValue>): EnvValue {
  if (typeof value !== "object") return create(EnvValueSchema, { source: { case: "value", value: String(value) } });
  if ("from_env" in value) return create(EnvValueSchema, { source: { case: "fromEnv", value: value.from_env } });
  if ("from_file" in value) return create(EnvValueSchema, { source: { case: "fromFile", value: value.from_file } });
  return create(EnvValueSchema, {
    source: { case: "fromKubernetesSecret", value: create(KubernetesSecretKeySchema, value.from_secret) },
  });
}

function hasControlCharacters(text: string): boolean {
  for (const character of text) {
    const code = character.charCodeAt(0);
    if (code < 0x20 || code === 0x7f) return true;
  }
  return false;
}
