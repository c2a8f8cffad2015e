// What upstreams do wrong, and what clients, ledger and channels see of it.
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";
import { describe, expect, test } from "vitest";
import { ChannelState } from "#gen/drawbridge/v1/channel";
import { End, UsageSource } from "#gen/drawbridge/v1/usage";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { until } from "../../support/until.ts";
import {
  answers,
  answersWrongJson,
  type Behaviour,
  breaksAfterContent,
  breaksBeforeContent,
  fails,
  frame,
  neverAnswers,
  redirects,
  stallsAfterContent,
  startUpstream,
  type Upstream,
} from "../../support/upstream.ts";
import { adminOf, type GatewayUnderTest, model, says } from "../gateway/harness.ts";
import { allOf, channelTo, ledgerOf, startWithChannels, upstreamModel } from "./given.ts";

const messages = [{ role: "user" as const, content: "Hi" }];
const ask = (stream: boolean, name = upstreamModel) => ({ model: name, messages, stream });

interface Given extends AsyncDisposable {
  readonly first: Upstream;
  readonly second: Upstream;
  readonly gateway: GatewayUnderTest;
}

/** Two upstreams, the first of which is asked first. */
async function given(behave: Behaviour, fields: object = {}): Promise<Given> {
  const stack = new AsyncDisposableStack();
  const first = stack.use(await startUpstream(behave));
  const second = stack.use(await startUpstream());
  const gateway = stack.use(
    await startWithChannels([
      channelTo(first, { id: "first", priority: 2, ...fields }),
      channelTo(second, { id: "second", priority: 1, keys: ["KEY_B"] }),
    ]),
  );
  return { first, second, gateway, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

async function statusOf({ app }: GatewayUnderTest, id: string) {
  const { channels } = await adminOf(app).listChannels({});
  return channels.find((channel) => channel.id === id)?.status;
}

const beforeContent: readonly (readonly [string, Behaviour])[] = [
  ["401", fails(401)],
  ["403", fails(403)],
  ["404", fails(404)],
  ["408", fails(408)],
  ["409", fails(409)],
  ["429", fails(429)],
  ["500", fails(500)],
  ["503", fails(503)],
  ["a redirect", redirects("http://127.0.0.1:1/elsewhere")],
  ["an answer that is no JSON", answersWrongJson],
  ["a stream that breaks before content", breaksBeforeContent],
  ["an error inside a stream before content", errorInStream],
];

function errorInStream({ response }: Parameters<Behaviour>[0]): void {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.end(frame({ error: { message: "overloaded", type: "server_error" } }));
}

describe("before content the next channel answers", () => {
  test.each(beforeContent)("after %s", async (_name, behave) => {
    await using it = await given(behave);
    const sdk = it.gateway.openai();
    const whole = await sdk.chat.completions
      .create({ model: upstreamModel, messages })
      .catch((error: unknown) => error);
    expect(whole).toMatchObject({ choices: [{ message: { content: "Hello from upstream" } }] });
    const chunks = await allOf(await sdk.chat.completions.create({ ...ask(true), stream: true }));
    expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("")).toBe("Hello from upstream");
    const entries = await ledgerOf(it.gateway, 2);
    expect(entries.map(({ accountId, costMicros }) => [accountId, costMicros])).toEqual([
      ["channel:second", 711n],
      ["channel:second", 711n],
    ]);
  });

  test("after a refused connection", async () => {
    await using it = await given(answers({}));
    await it.first.kill();
    const answer = await it.gateway.openai().chat.completions.create({ model: upstreamModel, messages });
    expect(answer.choices[0]?.message.content).toBe("Hello from upstream");
    await ledgerOf(it.gateway, 1);
  });

  test("after a first byte that does not come in time", async () => {
    await using it = await given(neverAnswers, { timeouts: { first_byte: "200ms" } });
    await it.gateway.openai().chat.completions.create({ model: upstreamModel, messages });
    expect((await ledgerOf(it.gateway, 1))[0]?.accountId).toBe("channel:second");
    await until("the first upstream is let go", () => it.first.abandoned() === 1);
  });
});

describe("a slow start of a stream", () => {
  const slow =
    (then: Behaviour): Behaviour =>
    async (call) => {
      await sleep(300);
      await then(call);
    };

  async function commented(behave: Behaviour): Promise<string> {
    await using first = await startUpstream(slow(behave));
    await using second = await startUpstream(slow(behave === answers400 ? behave : answers({})));
    const channels = [
      channelTo(first, { id: "first", priority: 2 }),
      channelTo(second, { id: "second", priority: 1, keys: ["KEY_B"] }),
    ];
    await using gateway = await startWithChannels(channels, { settings: { first_content_wait: "20ms" } });
    const response = await gateway.request("/v1/chat/completions", { body: ask(true) });
    expect(response.status).toBe(200);
    const text = await response.text();
    await ledgerOf(gateway, 1);
    return text;
  }
  const answers400 = fails(400, { code: "bad" });

  test("has headers and comments, and its answer after them", async () => {
    expect(await commented(answers({}))).toMatch(/^(: ping\n\n)+data: [^]+ upstream[^]+data: \[DONE\]\n\n$/);
  });

  test("still moves on to another channel", async () => {
    expect(await commented(fails(500))).toMatch(/^(: ping\n\n)+data: [^]+ upstream[^]+data: \[DONE\]\n\n$/);
  });

  test("is refused by an event", async () => {
    expect(await commented(answers400)).toMatch(/^(: ping\n\n)+data: {"error":{[^]+"code":"bad"}}\n\n$/);
  });
});

describe("the client's own fault", () => {
  test.each([400, 413, 422])("%i is told in the upstream's words, and nobody else is asked", async (status) => {
    const error = {
      message: 'own-name says: "bad" sk-upstream-a',
      type: "invalid_request_error",
      param: "tools",
      code: "bad",
    };
    await using it = await given(fails(status, error));
    const response = await it.gateway.request("/v1/chat/completions", { body: ask(true) });
    expect(response.status).toBe(status);
    expect(await response.json()).toEqual({
      error: { ...error, message: `${upstreamModel} says: "bad" [redacted]` },
    });
    expect(it.second.requests).toHaveLength(0);
    const [entry] = await ledgerOf(it.gateway, 1);
    expect(entry).toMatchObject({ costMicros: 0n, end: End.FAILED_BEFORE_CONTENT, accountId: "channel:first" });
  });

  test("an unknown model at every upstream is a 404, not a failure that SDKs repeat", async () => {
    await using it = await given(fails(404, { message: "The model own-name does not exist", code: "model_not_found" }));
    it.second.behave = it.first.behave;
    const response = await it.gateway.request("/v1/chat/completions", { body: ask(false) });
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({
      error: { code: "model_not_found", message: `The model ${upstreamModel} does not exist` },
    });
  });
});

describe("after content nobody else is asked", () => {
  test("a stream that breaks ends with an error event, and what came is paid", async () => {
    await using it = await given(breaksAfterContent);
    const response = await it.gateway.request("/v1/chat/completions", { body: ask(true) });
    const text = await response.text();
    expect(text).toContain("Hello");
    expect(text).not.toContain("[DONE]");
    expect(text.trim().split("\n\n").at(-1)).toMatch(/^data: {"error":{"message":".+","type":"server_error"/);
    const stream = await it.gateway.openai().chat.completions.create({ ...ask(true), stream: true });
    await expect(allOf(stream)).rejects.toBeInstanceOf(OpenAI.APIError);
    expect(it.second.requests).toHaveLength(0);
    const [entry] = await ledgerOf(it.gateway, 2);
    expect(entry).toMatchObject({ accountId: "channel:first", end: End.FAILED_AFTER_CONTENT });
    // "Hello" and " from": two tokens, and the input by our own count.
    expect(entry?.usage).toMatchObject({ outputTokens: 2n, source: UsageSource.ESTIMATED });
    expect(entry?.costMicros).toBe((entry?.usage?.inputTokens ?? 0n) + 200n);
  });

  test("a killed upstream", async () => {
    await using it = await given(stallsAfterContent());
    const stream = await it.gateway.openai().chat.completions.create({ ...ask(true), stream: true });
    const reading = (async () => {
      for await (const { choices } of stream) if (choices[0]?.delta.content === " two") await it.first.kill();
    })();
    await expect(reading).rejects.toBeInstanceOf(OpenAI.APIError);
    expect((await ledgerOf(it.gateway, 1))[0]).toMatchObject({ end: End.FAILED_AFTER_CONTENT });
  });

  test("an upstream that stalls for longer than it may", async () => {
    await using it = await given(stallsAfterContent(), { timeouts: { idle: "300ms" } });
    const text = await (await it.gateway.request("/v1/chat/completions", { body: ask(true) })).text();
    expect(text).toContain('"code":"timeout"');
    expect((await ledgerOf(it.gateway, 1))[0]).toMatchObject({ end: End.TIMEOUT });
  });

  test("a responses stream ends with its own error event", async () => {
    await using it = await given(
      answers({ between: ({ response }, index) => void (index === 3 && response.destroy()) }),
    );
    const stream = await it.gateway.openai().responses.create({ model: upstreamModel, input: "Hi", stream: true });
    await expect(allOf(stream)).rejects.toBeInstanceOf(OpenAI.APIError);
    await ledgerOf(it.gateway, 1);
  });
});

describe("a client that leaves", () => {
  test("cancels the upstream at once, and pays what was produced", async () => {
    await using it = await given(stallsAfterContent());
    const stream = await it.gateway.openai().chat.completions.create({ ...ask(true), stream: true });
    for await (const { choices } of stream) if (choices[0]?.delta.content === " two") break;
    await until("the upstream is let go", () => it.first.abandoned() === 1);
    const [entry] = await ledgerOf(it.gateway, 1);
    expect(entry).toMatchObject({ end: End.CANCELLED, accountId: "channel:first" });
    expect(entry?.usage).toMatchObject({ outputTokens: 2n, source: UsageSource.ESTIMATED });
    expect((await statusOf(it.gateway, "first"))?.errors).toBe(0n);
  });

  test("before content pays nothing", async () => {
    await using it = await given(neverAnswers);
    const leaving = new AbortController();
    const asking = it.gateway.request("/v1/chat/completions", { body: ask(false), signal: leaving.signal });
    await until("the upstream is asked", () => it.first.requests.length === 1);
    leaving.abort();
    await expect(asking).rejects.toThrow();
    await until("the upstream is let go", () => it.first.abandoned() === 1);
    expect((await ledgerOf(it.gateway, 1))[0]).toMatchObject({ end: End.CANCELLED, costMicros: 0n });
    expect(it.second.requests).toHaveLength(0);
  });
});

describe("keys have states of their own", () => {
  const byKey =
    (behaviours: Readonly<Record<string, Behaviour>>): Behaviour =>
    (call) =>
      (behaviours[call.request.key ?? ""] ?? answers({}))(call);

  test("one that is refused stays out, with the reason, until a person acts", async () => {
    await using it = await given(byKey({ "sk-upstream-a": fails(401) }), { keys: ["KEY_A", "KEY_B"] });
    for (let index = 0; index < 8; index += 1) {
      await it.gateway.openai().chat.completions.create({ model: upstreamModel, messages });
    }
    const used = it.first.requests.map(({ key }) => key);
    expect(used.filter((key) => key === "sk-upstream-a")).toHaveLength(1);
    expect(it.second.requests).toHaveLength(0);
    const status = await statusOf(it.gateway, "first");
    expect(status?.state).toBe(ChannelState.READY);
    expect(status?.keys).toMatchObject([
      { name: "env:KEY_A", state: ChannelState.DISABLED, reason: "the upstream refused it (401)" },
      { name: "env:KEY_B", state: ChannelState.READY },
    ]);
    const enabled = await adminOf(it.gateway.app).enableChannel({ id: "first" });
    expect(enabled.channel?.status?.keys.map(({ state }) => state)).toEqual([ChannelState.READY, ChannelState.READY]);
  });

  test("one that is told to slow down rests until the time that was named", async () => {
    const limited = fails(429, { code: "rate_limit_exceeded" }, { "retry-after": "3600" });
    await using it = await given(byKey({ "sk-upstream-a": limited }), { keys: ["KEY_A", "KEY_B"] });
    for (let index = 0; index < 8; index += 1) {
      await it.gateway.openai().chat.completions.create({ model: upstreamModel, messages });
    }
    expect(it.first.requests.filter(({ key }) => key === "sk-upstream-a")).toHaveLength(1);
    const [key] = (await statusOf(it.gateway, "first"))?.keys ?? [];
    expect(key).toMatchObject({ name: "env:KEY_A", state: ChannelState.OPEN });
    const waitS = Number(key?.until?.seconds) - Date.now() / 1_000;
    expect(waitS).toBeGreaterThan(3_500);
    expect(waitS).toBeLessThan(3_700);
  });

  test("when all rest, the client is told when to come back", async () => {
    await using it = await given(fails(429, {}, { "retry-after": "7" }));
    it.second.behave = fails(429, {}, { "retry-after": "20" });
    const send = () => it.gateway.request("/v1/chat/completions", { body: ask(false) });
    const first = await send();
    expect(first.status).toBe(503);
    expect(first.headers.get("retry-after")).toBe("7");
    const second = await send();
    expect(second.status).toBe(503);
    expect(Number(second.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(it.first.requests).toHaveLength(1);
  });

  test("one that is not there is named, and nothing is sent without it", async () => {
    await using it = await given(answers({}), { keys: ["KEY_MISSING"] });
    await it.gateway.openai().chat.completions.create({ model: upstreamModel, messages });
    expect(it.first.requests).toHaveLength(0);
    expect((await statusOf(it.gateway, "first"))?.reason).toContain("the variable KEY_MISSING is not set");
  });
});

test("a channel that keeps failing is left alone, and tried again after its open time", async () => {
  await using it = await given(fails(500), { breaker: { calls_min: 3, open: "300ms", open_max: "300ms" } });
  const send = () => it.gateway.openai().chat.completions.create({ model: upstreamModel, messages });
  for (let index = 0; index < 3; index += 1) await send();
  expect(it.first.requests).toHaveLength(3);
  expect(await statusOf(it.gateway, "first")).toMatchObject({ errors: 3n, reason: "3 of the last 3 calls failed" });
  await send();
  expect(it.first.requests.length).toBeLessThanOrEqual(4);
  it.first.behave = answers({});
  await until("it is closed again", async () => {
    await send();
    return (await statusOf(it.gateway, "first"))?.state === ChannelState.READY;
  });
  const metrics = await (await it.gateway.request("/metrics")).text();
  expect(metrics).toMatch(/drawbridge_channel_tries_total{channel="first",result="failed"} [3-9]/);
  expect(metrics).toContain('drawbridge_channel_state{channel="first"} 0');
});

describe("the fleet among the channels", () => {
  test("a busy fleet spills over to an upstream, with one hold and one entry", async () => {
    await using it = await given(answers({}), { priority: -1 });
    it.gateway.engine.refusal = new DrawbridgeError("NO_CAPACITY", "busy");
    const answer = await it.gateway.openai().chat.completions.create({ model, messages });
    expect(answer.choices[0]?.message.content).toBe("Hello from upstream");
    expect(it.second.requests).toHaveLength(1);
    expect((await ledgerOf(it.gateway, 1))[0]).toMatchObject({ accountId: "channel:second", costMicros: 711n });
  });

  test("an upstream that fails hands over to the fleet behind it", async () => {
    await using it = await given(fails(500));
    it.second.behave = fails(500);
    it.gateway.engine.script = says("from the fleet");
    for (const stream of [false, true]) {
      const text = await (await it.gateway.request("/v1/chat/completions", { body: ask(stream, model) })).text();
      expect(text).toContain("from the fleet");
    }
    const entries = await ledgerOf(it.gateway, 2);
    expect(entries.map(({ accountId }) => accountId)).toEqual(["a-1", "a-1"]);
  });

  test("what the fleet cannot honour goes to an upstream that can", async () => {
    await using it = await given(answers({}), { priority: -1 });
    const body = { ...ask(false, model), logprobs: true };
    const response = await it.gateway.request("/v1/chat/completions", { body });
    expect(response.status).toBe(200);
    expect(it.second.requests[0]?.body).toMatchObject({ logprobs: true, model: "own-fleet-name" });
    await ledgerOf(it.gateway, 1);
  });

  test("when nobody answers, the first failure is told", async () => {
    await using it = await given(fails(500));
    it.second.behave = fails(500);
    const response = await it.gateway.request("/v1/chat/completions", { body: ask(false) });
    expect(response.status).toBe(502);
    expect(await response.json()).toMatchObject({ error: { type: "server_error", code: "upstream_error" } });
    expect((await ledgerOf(it.gateway, 1))[0]).toMatchObject({ costMicros: 0n, end: End.FAILED_BEFORE_CONTENT });
  });
});
