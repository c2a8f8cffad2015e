// Upstream channels in the whole product: `up` with an upstream before its fleet, commands, and the books.
import { dirname } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { sum } from "../support/books.ts";
import { account, ask, fleet, model, openTier } from "../support/fleet.ts";
import { startSystem, type System } from "../support/system.ts";
import { until } from "../support/until.ts";
import { answers, fails, stallsAfterContent, startUpstream, type Upstream } from "../support/upstream.ts";

const upstreamModel = "gpt-x";
let upstream: Upstream;
let system: System;

beforeAll(async () => {
  upstream = await startUpstream();
  system = await startSystem({
    configuration: {
      ...fleet({
        accounts: [account("a-1", { slots: 2, credits: 100 })],
        prices: { [model]: { input: 3, output: 15 }, [upstreamModel]: { input: 1, output: 100 } },
        tiers: { default: openTier },
      }),
      channels: [
        {
          id: "openai",
          kind: "openai",
          base_url: upstream.baseUrl,
          api_keys: [{ from_env: "UPSTREAM_KEY" }],
          models: { [upstreamModel]: "own-x", [model]: "own-m" },
          priority: 10,
          breaker: { calls_min: 1000 },
        },
      ],
    },
    environment: { UPSTREAM_KEY: "sk-of-the-operator" },
  });
});

beforeEach(() => {
  upstream.behave = answers({});
});

afterAll(async () => {
  await system[Symbol.asyncDispose]();
  await upstream[Symbol.asyncDispose]();
});

interface ChannelRow {
  readonly id: string;
  readonly state: string;
  readonly priority: number;
  readonly models: readonly string[];
  readonly keys: readonly { readonly name: string; readonly state: string }[];
  readonly requests: number;
}

const messages = [{ role: "user" as const, content: "Hi" }];

async function givenUser(id: string) {
  const { key } = await system.admin.createUser(id, 1);
  return { id, key, sdk: system.openai({ apiKey: key }) };
}

/** Entries of a user whose quota adds up and has nothing held. */
async function entries(id: string, count: number) {
  return await until(`${id} has ${count} entries`, async () => {
    const [user, usage] = await Promise.all([system.admin.user(id), system.admin.usage(id)]);
    expect(user.granted).toBe(user.available + user.held + user.spent);
    return user.held === 0 && usage.length === count && sum(usage.map(({ cost }) => cost)) === user.spent && usage;
  });
}

test("the upstream answers first, at its price, and the fleet where the upstream fails", async () => {
  const { id, sdk } = await givenUser("first");
  const answer = await sdk.chat.completions.create({
    model,
    messages: ask({ do: "answer", chunks: 1, text: "fleet" }),
  });
  expect(answer.choices[0]?.message.content).toBe("Hello from upstream");
  upstream.behave = fails(500);
  const second = await sdk.chat.completions.create({
    model,
    messages: ask({ do: "answer", chunks: 1, text: "fleet" }),
  });
  expect(second.choices[0]?.message.content).toBe("fleet");
  const stream = await sdk.chat.completions.create({
    model,
    messages: ask({ do: "answer", chunks: 1, text: "fleet" }),
    stream: true,
  });
  let text = "";
  for await (const { choices } of stream) text += choices[0]?.delta.content ?? "";
  expect(text).toBe("fleet");
  const usage = await entries(id, 3);
  expect(usage.map(({ account: name }) => name)).toEqual(["a-1", "a-1", "channel:openai"]);
  // 11 × $3 + 7 × $15 a million.
  expect(usage[2]?.cost).toBe(138);
});

test("an upstream that is cut off in mid-stream ends with an error, and is paid for what came", async () => {
  const { id, sdk } = await givenUser("cut");
  const other = await startUpstream(stallsAfterContent());
  await using _closing = other;
  const words = ["--base-url", other.baseUrl, "--models", "gpt-cut", "--key-env", "UPSTREAM_KEY"];
  await system.cli("channel", "create", "cut", ...words);
  await system.cli("price", "set", "gpt-cut", "--input", "1", "--output", "100");
  const stream = await sdk.chat.completions.create({ model: "gpt-cut", messages, stream: true });
  const reading = (async () => {
    for await (const { choices } of stream) if (choices[0]?.delta.content === " two") await other.kill();
  })();
  await expect(reading).rejects.toBeInstanceOf(OpenAI.APIError);
  const [entry] = await entries(id, 1);
  expect(entry).toMatchObject({
    account: "channel:cut",
    end: "failed_after_content",
    output_tokens: 2,
    source: "estimated",
  });
  expect(entry?.cost).toBe((entry?.input_tokens ?? 0) + 200);
  await system.cli("channel", "delete", "cut");
  const refused = await system.request("/v1/chat/completions", { body: { model: "gpt-cut", messages } });
  expect(refused.status).toBe(404);
});

test("commands create, change, switch off and on, and delete channels, at once", async () => {
  const { sdk } = await givenUser("operator");
  const create = (id: string) =>
    system.cli<ChannelRow>(
      "channel",
      "create",
      id,
      "--base-url",
      upstream.baseUrl,
      "--models",
      "fast=own-fast",
      "--key-env",
      "UPSTREAM_KEY",
    );
  expect(await create("second")).toMatchObject({ id: "second", state: "ready", models: ["fast"] });
  await expect(create("second")).rejects.toThrow("second");
  await sdk.chat.completions.create({ model: "fast", messages });
  expect(upstream.requests.at(-1)).toMatchObject({ key: "sk-of-the-operator", body: { model: "own-fast" } });
  expect(
    await system.cli("channel", "update", "second", "--priority", "-5", "--models", "faster=own-fast"),
  ).toMatchObject({
    priority: -5,
    models: ["faster"],
    keys: [{ name: "env:UPSTREAM_KEY", state: "ready" }],
  });
  await expect(sdk.chat.completions.create({ model: "fast", messages })).rejects.toMatchObject({ status: 404 });
  await sdk.chat.completions.create({ model: "faster", messages });
  expect(await system.cli("channel", "disable", "second")).toMatchObject({ state: "disabled" });
  await expect(sdk.chat.completions.create({ model: "faster", messages })).rejects.toMatchObject({ status: 503 });
  expect(await system.cli("channel", "enable", "second")).toMatchObject({ state: "ready" });
  await sdk.chat.completions.create({ model: "faster", messages });
  expect(await system.cli("channel", "update", "fleet", "--priority", "20")).toMatchObject({
    id: "fleet",
    priority: 20,
  });
  const fleetAnswer = await sdk.chat.completions.create({
    model,
    messages: ask({ do: "answer", chunks: 1, text: "fleet first" }),
  });
  expect(fleetAnswer.choices[0]?.message.content).toBe("fleet first");
  const rows = await system.cli<ChannelRow[]>("channel", "list");
  expect(rows.map((row) => row.id)).toEqual(["fleet", "openai", "second"]);
  await system.cli("channel", "delete", "second");
  await system.cli("channel", "delete", "fleet");
  const left = await system.cli<ChannelRow[]>("channel", "list");
  expect(left.map((row) => [row.id, row.priority])).toEqual([
    ["fleet", 0],
    ["openai", 10],
  ]);
  expect((await system.command("channel", "list")).output).not.toContain("sk-of-the-operator");
});

test("upstreams alone: no agent and no demo is needed to be ready", async () => {
  await using alone = await startSystem({
    configuration: {
      channels: [{ id: "only", kind: "openai", base_url: upstream.baseUrl, models: ["gpt-only"] }],
    },
    // Where no agent is found.
    environment: { PATH: dirname(process.execPath) },
  });
  expect(alone.printed()).not.toContain("demo");
  expect(await alone.admin.accounts()).toEqual([]);
  const answer = await alone.openai().chat.completions.create({ model: "gpt-only", messages });
  expect(answer).toMatchObject({ model: "gpt-only", choices: [{ message: { content: "Hello from upstream" } }] });
  expect(upstream.requests.at(-1)?.key).toBeUndefined();
});
