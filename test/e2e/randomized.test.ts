// Randomized requests against two gateways on one Valkey, with whatever can go wrong: agents and upstreams that fail, clients that leave, limits, and a
// gateway that is killed. The books must add up, and nothing may be served beyond a limit.
//
// A default run takes DRAWBRIDGE_RANDOM_REQUESTS=600 requests and races of DRAWBRIDGE_RACE=200; the full one is 10000 and 1000.
// DRAWBRIDGE_RANDOM_SEED repeats a run, as far as the timing of processes lets it.
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "@connectrpc/connect";
import { Agent, request as send } from "undici";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AccessService, BudgetWindow } from "#gen/drawbridge/v1/access_service";
import type { UsageEntry } from "#gen/drawbridge/v1/usage";
import { createDialer } from "../../services/kit/rpc/client.ts";
import { account, ask, fleet, type Instruction, model, openTier } from "../support/fleet.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { type SplitSystem, splitKeys, startSplitSystem } from "../support/split-system.ts";
import { until } from "../support/until.ts";
import { startUpstream, type Upstream } from "../support/upstream.ts";

const requestCount = Number(process.env["DRAWBRIDGE_RANDOM_REQUESTS"] ?? 600);
const raceCount = Number(process.env["DRAWBRIDGE_RACE"] ?? 200);
const seed = Number(process.env["DRAWBRIDGE_RANDOM_SEED"] ?? Date.now() % 1_000_000);
const inFlightMax = 400;

const random = seededRandom(seed);
const oneOf = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
const chance = (share: number): boolean => random() < share;

/** What only prompts have in them: it must be in no log. */
const secretWord = "the-secret-of-a-prompt";
const upstreamModel = "up/model";

/** $100 for a million output tokens: a hold of 100 output tokens is a cent. */
const price = { input: 1, output: 100 };

let upstream: Upstream;
let system: SplitSystem;
let agent: Agent;
let dialer: ReturnType<typeof createDialer>;
let access: Client<typeof AccessService>;

beforeAll(async () => {
  upstream = await startUpstream(failAtRandom);
  system = await startSplitSystem({
    counts: { gateway: 2 },
    environment: { UPSTREAM_KEY: "sk-upstream-of-the-test" },
    configuration: fleet({
      accounts: ["a-1", "a-2", "a-3"].map((id) => account(id, { slots: 6, queue: 64 })),
      prices: { [model]: price, [upstreamModel]: price },
      gateway: { hold_ttl: "3s", sweep_interval: "500ms" },
      channels: [
        {
          id: "up",
          kind: "openai",
          base_url: upstream.baseUrl,
          api_keys: [{ from_env: "UPSTREAM_KEY" }],
          models: { [upstreamModel]: "own-name" },
        },
      ],
      tiers: {
        default: openTier,
        slow: { ...openTier, rpm: 120 },
        thirsty: { ...openTier, tpm: 20_000 },
        narrow: { ...openTier, concurrency: 5 },
        low: { ...openTier, priority: "low", ratio: 0.5 },
      },
    }),
  });
  agent = new Agent({ connections: null, pipelining: 1, headersTimeout: 120_000, bodyTimeout: 120_000 });
  dialer = createDialer({ token: splitKeys.admin });
  access = dialer.client(AccessService, system.gateways[0] ?? "", { unreachable: "STATE_UNAVAILABLE" });
});

afterAll(async () => {
  await dialer?.[Symbol.asyncDispose]();
  await agent?.destroy();
  await system?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
});

/** An upstream that answers, refuses, hangs up before or in the middle of its answer, or asks to slow down. */
async function failAtRandom({ request, response }: Parameters<Upstream["behave"]>[0]): Promise<void> {
  const usage = { prompt_tokens: 5, completion_tokens: 3, total_tokens: 8 };
  const fate = random();
  if (fate < 0.1) return void response.destroy();
  if (fate < 0.2) return void response.writeHead(500, { "content-type": "application/json" }).end('{"error":{}}');
  if (fate < 0.25) return void response.writeHead(429, { "retry-after": "1" }).end('{"error":{}}');
  if (request.body["stream"] !== true) {
    const choices = [{ index: 0, message: { role: "assistant", content: "hello there" }, finish_reason: "stop" }];
    const body = { id: "c", object: "chat.completion", created: 1, model: "own-name", choices, usage };
    return void response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  const chunk = (fields: object) =>
    `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", created: 1, model: "own-name", ...fields })}\n\n`;
  for (const word of ["hello", " there", " you"]) {
    response.write(chunk({ choices: [{ index: 0, delta: { content: word }, finish_reason: null }] }));
    await sleep(5);
    if (fate > 0.9) return void response.destroy();
  }
  response.write(chunk({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }));
  response.end(`${chunk({ choices: [], usage })}data: [DONE]\n\n`);
}

interface Sent {
  readonly status: number;
  readonly requestId: string;
}

interface Ask {
  readonly gateway: string;
  readonly key: string;
  readonly body: object;
  readonly headers?: Readonly<Record<string, string>>;
  readonly leaveAfterMs?: number | undefined;
  readonly signal?: AbortSignal;
}

/** Sends a request and reads its answer. A status of 0: the connection ended first, by either side. */
async function answerOf({ gateway, key, body, headers, leaveAfterMs, signal }: Ask): Promise<Sent> {
  const signals = [leaveAfterMs === undefined ? undefined : AbortSignal.timeout(leaveAfterMs), signal];
  const given = signals.filter((each) => each !== undefined);
  try {
    const response = await send(`${gateway}/v1/chat/completions`, {
      method: "POST",
      dispatcher: agent,
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
      ...(given.length > 0 ? { signal: AbortSignal.any(given) } : {}),
    });
    const requestId = String(response.headers["x-request-id"]);
    await response.body.text();
    return { status: response.statusCode, requestId };
  } catch {
    return { status: 0, requestId: "" };
  }
}

function randomInstruction(): Instruction {
  const chunks = Math.floor(random() * 8);
  const pause_ms = chance(0.3) ? Math.floor(random() * 20) : 0;
  const common = { chunks, pause_ms, note: secretWord };
  const kind = random();
  if (kind < 0.7) return { do: "answer", ...common, ...(chance(0.5) ? { credits: random() * 2 } : {}) };
  if (kind < 0.8) return { do: "error", ...common, chunks: chance(0.5) ? 0 : chunks };
  if (kind < 0.82) return { do: "die", ...common, chunks: chance(0.5) ? 0 : chunks };
  if (kind < 0.9) return { do: "empty" };
  return { do: "answer", ...common, chunks: 30, pause_ms: 10 };
}

function randomAsk(keys: readonly string[], gateways: readonly string[]): Ask {
  const leaves = chance(0.15);
  const body = {
    model: chance(0.25) ? upstreamModel : model,
    messages: ask(randomInstruction()),
    stream: chance(0.5),
    max_tokens: 10 + Math.floor(random() * 200),
    ...(chance(0.02) ? { temperature: "hot" } : {}),
  };
  return {
    gateway: oneOf(gateways),
    key: oneOf(keys),
    body,
    ...(chance(0.05) ? { headers: { "idempotency-key": `key-${Math.floor(random() * 20)}` } } : {}),
    ...(leaves ? { leaveAfterMs: Math.floor(random() * 150) } : {}),
  };
}

async function newKey(userId: string, fields: object = {}): Promise<string> {
  return (await access.createApiKey({ userId, ...fields })).secret;
}

async function entriesOf(userId: string): Promise<UsageEntry[]> {
  const entries: UsageEntry[] = [];
  for (let pageToken = ""; ; ) {
    const page = await access.listUsage({ userId, pageToken });
    entries.push(...page.entries);
    pageToken = page.nextPageToken;
    if (pageToken === "") return entries;
  }
}

/** Waits until nothing of the users is held; the equation must hold at every look, and the ledger must add up to what was spent. */
async function settledEntries(userIds: readonly string[]): Promise<UsageEntry[]> {
  const all: UsageEntry[] = [];
  for (const id of userIds) {
    const spent = await until(
      `nothing of ${id} is held`,
      async () => {
        const quota = (await access.getUser({ id })).user?.quota;
        if (!quota) throw new Error("There is no quota.");
        expect(quota.available + quota.held + quota.spent).toBe(quota.granted);
        return quota.held === 0n && { micros: quota.spent };
      },
      { timeoutMs: 90_000, everyMs: 200 },
    );
    const entries = await entriesOf(id);
    expect(entries.reduce((sum, entry) => sum + entry.costMicros, 0n)).toBe(spent.micros);
    all.push(...entries);
  }
  expect(new Set(all.map((entry) => entry.requestId)).size, "each request has one entry").toBe(all.length);
  return all;
}

const race = (name: string) => `a race of ${raceCount} on ${name} serves no more than it may`;

/** Requests whose agent says nothing and does not end: those that were let in stay in. Gives how many were, when all others were refused. */
async function raceOfHanging(
  key: string,
  expected: number,
): Promise<{ readonly inside: number; readonly codes: Set<number> }> {
  const leaving = new AbortController();
  const codes = new Set<number>();
  let refused = 0;
  const body = { model, messages: ask({ do: "hang" }), max_tokens: 100 };
  const sent = Array.from({ length: raceCount }, async (_, index) => {
    const gateway = system.gateways[index % 2] ?? "";
    const { status } = await answerOf({ gateway, key, body, signal: leaving.signal });
    if (status === 0) return;
    refused += 1;
    codes.add(status);
  });
  await until("all others are refused", () => refused >= raceCount - expected, { timeoutMs: 60_000 });
  // Time for one too many to show itself.
  await sleep(300);
  const inside = raceCount - refused;
  leaving.abort();
  await Promise.all(sent);
  return { inside, codes };
}

test.each([
  ["concurrency of a tier", "narrow", {}, 5],
  ["concurrency of a key", "default", { limits: { concurrency: 4n } }, 4],
  ["requests a minute of a key", "default", { limits: { requestsPerMinute: 3n } }, 3],
  ["tokens a minute of a key", "default", { limits: { tokensPerMinute: 450n } }, 4],
  ["a key's budget for a day", "default", { budgetMicros: 61_000n, budgetWindow: BudgetWindow.DAY }, 6],
])(race("%s"), async (name, tier, keyFields, expected) => {
  const id = `race ${name}`;
  await access.createUser({ id, tier, quotaMicros: 10_000_000_000n });
  const { inside, codes } = await raceOfHanging(await newKey(id, keyFields), expected);
  expect(inside).toBe(expected);
  expect([...codes]).toEqual([429]);
  await settledEntries([id]);
});

test.each([
  ["a user's quota", { quotaMicros: 55_000n }, 5],
  [
    "a user's budget for a month",
    { quotaMicros: 10_000_000_000n, budget: { micros: 35_000n, window: BudgetWindow.MONTH } },
    3,
  ],
])(race("%s"), async (name, userFields, expected) => {
  const id = `race ${name}`;
  await access.createUser({ id, ...userFields });
  const { inside, codes } = await raceOfHanging(await newKey(id), expected);
  expect(inside).toBe(expected);
  expect([...codes]).toEqual([429]);
  await settledEntries([id]);
});

test("a revoked key is refused by every gateway within a second", async () => {
  await access.createUser({ id: "revoked", quotaMicros: 1_000_000n });
  const { key, secret } = await access.createApiKey({ userId: "revoked" });
  const statusAt = async (gateway: string) => {
    const { statusCode, body } = await send(`${gateway}/v1/models`, {
      dispatcher: agent,
      headers: { authorization: `Bearer ${secret}` },
    });
    await body.dump();
    return statusCode;
  };
  for (const gateway of system.gateways) expect(await statusAt(gateway)).toBe(200);
  await access.revokeApiKey({ id: key?.id ?? "" });
  await sleep(1_000);
  for (const gateway of system.gateways) expect(await statusAt(gateway)).toBe(401);
});

test("a channel that one gateway is told of answers on every gateway at once, and is gone from all as soon as it is switched off", async () => {
  await access.createUser({ id: "told", quotaMicros: 1_000_000n });
  const key = await newKey("told");
  const served = "up/told";
  const statuses = async () => {
    const body = { model: served, messages: ask({ do: "answer" }) };
    const all = await Promise.all(system.gateways.map((gateway) => answerOf({ gateway, key, body })));
    return all.map(({ status }) => status);
  };
  const settled = (expected: (status: number) => boolean) =>
    until("every gateway knows", async () => (await statuses()).every(expected), { timeoutMs: 2_000 });
  expect(await statuses()).toEqual([404, 404]);
  const spec = { id: "told", kind: "openai", baseUrl: upstream.baseUrl, models: { [served]: "own-name" } };
  await access.createChannel({ spec });
  // The upstream fails at random: anything but an unknown model is its answer.
  await settled((status) => status !== 404);
  await access.deleteChannel({ id: "told" });
  await settled((status) => status === 404);
});

test("places that a killed gateway held are free again", async () => {
  await access.createUser({ id: "killed", tier: "narrow", quotaMicros: 10_000_000n });
  const key = await newKey("killed");
  const [first = "", second = ""] = system.gateways;
  const hanging = { model, messages: ask({ do: "hang" }), max_tokens: 100 };
  // Whoever looks whether all places are taken takes one for a moment itself.
  const hold = async () => {
    while ((await answerOf({ gateway: second, key, body: hanging })).status === 429) await sleep(10);
  };
  const held = Array.from({ length: 5 }, hold);
  const answered = async () =>
    (await answerOf({ gateway: first, key, body: { ...hanging, messages: ask({ do: "answer" }) } })).status;
  await until("every place is taken", async () => (await answered()) === 429);
  await system.kill("gateway-2");
  await until("a place is free", async () => (await answered()) === 200, { timeoutMs: 30_000 });
  await Promise.all(held);
  await settledEntries(["killed"]);
  system.start("gateway-2");
  await system.ready(1);
});

test(`${requestCount} randomized requests, with a gateway killed among them, leave books that add up (seed ${seed})`, async () => {
  const tiers = ["default", "default", "slow", "thirsty", "narrow", "low"];
  const users = tiers.map((tier, index) => ({ id: `user ${index} {${tier}}`, tier }));
  const keys: string[] = [];
  for (const { id, tier } of users) {
    await access.createUser({ id, tier, quotaMicros: tier === "default" ? 200_000_000n : 2_000_000n });
    keys.push(await newKey(id));
  }
  const [first] = users;
  keys.push(await newKey(first?.id ?? "", { budgetMicros: 300_000n, budgetWindow: BudgetWindow.WEEK }));
  keys.push(await newKey(first?.id ?? "", { limits: { concurrency: 3n, requestsPerMinute: 100n } }));

  let begun = 0;
  let living = [...system.gateways];
  const sent: Sent[] = [];
  const worker = async () => {
    while (begun < requestCount) {
      begun += 1;
      if (begun === Math.floor(requestCount / 2)) {
        void system.kill("gateway-2");
        living = living.slice(0, 1);
      }
      sent.push(await answerOf(randomAsk(keys, living)));
    }
  };
  await Promise.all(Array.from({ length: Math.min(inFlightMax, requestCount) }, worker));

  const entries = await settledEntries(users.map(({ id }) => id));
  const entryOf = new Map(entries.map((entry) => [entry.requestId, entry]));
  const answered = sent.filter(({ status }) => status === 200);
  // A repeated answer of an idempotency key has the id of its own request, which was never let in.
  const missing = answered.filter(({ requestId }) => !entryOf.has(requestId));
  expect(missing.length).toBeLessThanOrEqual(requestCount / 20);
  expect(entries.length).toBeLessThanOrEqual(requestCount);
  const counts = Map.groupBy(sent, ({ status }) => status);
  // Something of everything happened.
  for (const status of [0, 200, 400, 429]) expect(counts.get(status)?.length ?? 0, String(status)).toBeGreaterThan(0);
  for (const each of await system.admin.accounts()) expect(each.granted).toBe(each.credits + each.held + each.spent);

  const log = system.printed();
  expect(log).toContain('"msg":"request"');
  for (const secret of [secretWord, splitKeys.api, splitKeys.admin, "sk-upstream-of-the-test", ...keys]) {
    expect(log.includes(secret), "a secret is in the log").toBe(false);
  }
  process.stdout.write(
    `${requestCount} requests, seed ${seed}: ${[...counts].map(([status, all]) => `${status}: ${all.length}`).join(", ")}; ${entries.length} entries\n`,
  );
}, 900_000);
