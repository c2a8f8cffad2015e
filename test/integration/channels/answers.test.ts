// What clients get from an upstream channel: the official SDK against a real gateway and a real upstream.
import { expect, test } from "vitest";
import { End, UsageSource } from "#gen/drawbridge/v1/usage";
import { answers, type AnswerOptions, startUpstream } from "../../support/upstream.ts";
import { allOf, type ChannelFields, channelTo, ledgerOf, startWithChannels, upstreamModel } from "./given.ts";

const messages = [{ role: "user" as const, content: "Hi" }];

async function given(options: AnswerOptions = {}, fields: ChannelFields = {}, settings: object = {}) {
  const stack = new AsyncDisposableStack();
  const upstream = stack.use(await startUpstream(answers(options)));
  const gateway = stack.use(await startWithChannels([channelTo(upstream, fields)], { settings: { ...settings } }));
  return { upstream, gateway, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

test("a whole answer: the model's name both ways, unknown parameters passed on, our own headers", async () => {
  await using it = await given();
  const body = { model: upstreamModel, messages, temperature: 0.3, top_k: 5, vendor: { deep: [1, "x"] } };
  const response = await it.gateway.request("/v1/chat/completions", { body });
  expect(response.status).toBe(200);
  const answer = (await response.json()) as Record<string, unknown>;
  expect(answer).toMatchObject({ model: upstreamModel, system_fingerprint: "fp_upstream" });
  expect(it.upstream.requests[0]).toMatchObject({
    path: "/v1/chat/completions",
    key: "sk-upstream-a",
    body: { ...body, model: "own-name" },
  });
  expect(response.headers.get("x-request-id")).toMatch(/^req_/);
  expect(Number(response.headers.get("x-ratelimit-remaining-requests"))).toBeGreaterThan(1);
  for (const name of ["set-cookie", "openai-organization", "server"]) expect(response.headers.has(name)).toBe(false);
  const [entry] = await ledgerOf(it.gateway, 1);
  // 11 × $1 + 7 × $100 a million.
  expect(entry).toMatchObject({ accountId: "channel:up", model: upstreamModel, end: End.FINISHED, costMicros: 711n });
  expect(entry?.usage).toMatchObject({ inputTokens: 11n, outputTokens: 7n, source: UsageSource.REPORTED });
});

test("a stream without usage for who did not ask for it, and metered all the same", async () => {
  await using it = await given({ usage: { prompt_tokens: 100, completion_tokens: 9, cached_tokens: 40 } });
  const response = await it.gateway.request("/v1/chat/completions", {
    body: { model: upstreamModel, messages, stream: true },
  });
  expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
  const text = await response.text();
  expect(text).not.toContain("usage");
  expect(text).not.toContain("own-name");
  expect(text.endsWith("data: [DONE]\n\n")).toBe(true);
  expect(text.split("\n\n")).toHaveLength(7);
  expect(it.upstream.requests[0]?.body).toMatchObject({ stream: true, stream_options: { include_usage: true } });
  const [entry] = await ledgerOf(it.gateway, 1);
  // 60 × $1 + 40 × $0.1 + 9 × $100 a million.
  expect(entry).toMatchObject({ costMicros: 964n, accountId: "channel:up" });
});

test("a stream with usage for who asked for it", async () => {
  await using it = await given();
  const stream = await it.gateway
    .openai()
    .chat.completions.create({ model: upstreamModel, messages, stream: true, stream_options: { include_usage: true } });
  const chunks = await allOf(stream);
  expect(chunks.map(({ model }) => model)).toEqual(chunks.map(() => upstreamModel));
  expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("")).toBe("Hello from upstream");
  expect(chunks.slice(0, -1).every(({ usage }) => usage === null)).toBe(true);
  expect(chunks.at(-1)).toMatchObject({
    choices: [],
    usage: { prompt_tokens: 11, completion_tokens: 7, total_tokens: 18 },
  });
  await ledgerOf(it.gateway, 1);
});

test("usage that an upstream does not tell is estimated, flagged, and told as such to who asked", async () => {
  await using it = await given({ usage: null, words: ["one", " two", " three"] });
  const stream = await it.gateway
    .openai()
    .chat.completions.create({ model: upstreamModel, messages, stream: true, stream_options: { include_usage: true } });
  const last = (await allOf(stream)).at(-1);
  expect(last).toMatchObject({ choices: [], usage: { completion_tokens: 3 } });
  await it.gateway.openai().chat.completions.create({ model: upstreamModel, messages });
  const entries = await ledgerOf(it.gateway, 2);
  for (const { usage } of entries) {
    expect(usage).toMatchObject({ outputTokens: 3n, source: UsageSource.ESTIMATED });
    expect(usage?.inputTokens).toBeGreaterThan(0n);
  }
});

test("bytes that are cut anywhere make the same stream", async () => {
  const words = ["ünï", "cödé ", "漢字", " 🏰"];
  await using it = await given({ words, cut: (bytes) => Array.from(bytes, (byte) => Buffer.from([byte])) });
  const stream = await it.gateway.openai().chat.completions.create({ model: upstreamModel, messages, stream: true });
  const chunks = await allOf(stream);
  expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("")).toBe(words.join(""));
  const [entry] = await ledgerOf(it.gateway, 1);
  expect(entry?.costMicros).toBe(711n);
});

test("legacy completions, whole and streamed", async () => {
  await using it = await given();
  const sdk = it.gateway.openai();
  const whole = await sdk.completions.create({ model: upstreamModel, prompt: "Say" });
  expect(whole).toMatchObject({ model: upstreamModel, choices: [{ text: "Hello from upstream" }] });
  const stream = await sdk.completions.create({ model: upstreamModel, prompt: "Say", stream: true });
  const chunks = await allOf(stream);
  expect(chunks.map(({ choices }) => choices[0]?.text).join("")).toBe("Hello from upstream");
  expect((await ledgerOf(it.gateway, 2)).map(({ costMicros }) => costMicros)).toEqual([711n, 711n]);
});

test("responses, whole and streamed with typed events", async () => {
  await using it = await given();
  const sdk = it.gateway.openai();
  const whole = await sdk.responses.create({ model: upstreamModel, input: "Hi" });
  expect(whole).toMatchObject({ model: upstreamModel, output_text: "Hello from upstream" });
  const stream = await sdk.responses.create({ model: upstreamModel, input: "Hi", stream: true });
  const events = await allOf(stream);
  expect(events.map(({ type }) => type)).toEqual([
    "response.created",
    "response.output_text.delta",
    "response.output_text.delta",
    "response.output_text.delta",
    "response.completed",
  ]);
  expect(events.at(-1)).toMatchObject({ response: { model: upstreamModel } });
  expect(it.upstream.requests[1]?.body).not.toHaveProperty("stream_options");
  expect((await ledgerOf(it.gateway, 2)).map(({ costMicros }) => costMicros)).toEqual([711n, 711n]);
});

test("embeddings are paid by their input, held for no output, and keep their numbers", async () => {
  await using it = await given({}, { models: { embed: "own-embed" } });
  const sdk = it.gateway.openai();
  const answer = await sdk.embeddings.create({ model: "embed", input: ["a", "b"], encoding_format: "float" });
  expect(answer.model).toBe("embed");
  expect(answer.data.map(({ embedding }) => embedding)).toEqual([
    [0.25, -1e-9, 3],
    [0.25, -1e-9, 3],
  ]);
  const [entry] = await ledgerOf(it.gateway, 1);
  expect(entry).toMatchObject({ costMicros: 10n, accountId: "channel:up" });
});

test("moderations and speech pass through", async () => {
  await using it = await given();
  const sdk = it.gateway.openai();
  expect(await sdk.moderations.create({ model: upstreamModel, input: "x" })).toMatchObject({ id: "modr-1" });
  const speech = await sdk.audio.speech.create({ model: upstreamModel, input: "x", voice: "alloy" });
  expect(speech.headers.get("content-type")).toBe("audio/mpeg");
  expect(new Uint8Array(await speech.arrayBuffer())).toEqual(new Uint8Array([0xff, 0xfb, 0x00, 0x80]));
  await ledgerOf(it.gateway, 2);
});

test("the models of channels are listed, and an unknown one or a route that nobody serves is refused", async () => {
  await using it = await given({}, { routes: ["chat/completions"] });
  const sdk = it.gateway.openai();
  const ids = (await allOf(sdk.models.list())).map(({ id }) => id);
  expect(ids).toEqual([upstreamModel, "test/model-1"]);
  expect(await sdk.models.retrieve(upstreamModel)).toMatchObject({ id: upstreamModel, object: "model" });
  const refused = await it.gateway.request("/v1/embeddings", { body: { model: upstreamModel, input: "x" } });
  expect(refused.status).toBe(400);
  expect(await refused.json()).toMatchObject({ error: { param: "model", code: "unsupported_model" } });
  const message = { model: upstreamModel, max_tokens: 5, messages };
  const foreign = await it.gateway.request("/v1/messages", { body: message });
  expect(foreign.status).toBe(400);
  expect(await foreign.json()).toMatchObject({
    error: { message: expect.stringContaining("not served on /v1/messages") },
  });
  const counted = await it.gateway.request("/v1/messages/count_tokens", { body: { model: upstreamModel, messages } });
  expect(await counted.json()).toEqual({ input_tokens: 5 });
  const unknown = await it.gateway.request("/v1/embeddings", { body: { model: "nobody", input: "x" } });
  expect(unknown.status).toBe(404);
  expect(await unknown.json()).toMatchObject({ error: { code: "model_not_found" } });
});

test("a repeated Idempotency-Key gets the same answer and is billed once", async () => {
  await using it = await given();
  const send = () =>
    it.gateway.request("/v1/chat/completions", {
      body: { model: upstreamModel, messages },
      headers: { "idempotency-key": "once" },
    });
  const first = await (await send()).text();
  const second = await send();
  expect(second.headers.get("idempotent-replayed")).toBe("true");
  expect(await second.text()).toBe(first);
  expect(it.upstream.requests).toHaveLength(1);
  await ledgerOf(it.gateway, 1);
});

test("a request's limits are kept within ours, and several answers are held for", async () => {
  await using it = await given({}, {}, { output_tokens_max: 60_000 });
  const tooMuch = { model: upstreamModel, messages, max_tokens: 9_000_000, n: 1 };
  await it.gateway.request("/v1/chat/completions", { body: tooMuch });
  expect(it.upstream.requests[0]?.body).toMatchObject({ max_tokens: 60_000 });
  // 60,000 × $100 a million is $6 for one answer, and the user has not quite $10.
  const refused = await it.gateway.request("/v1/chat/completions", {
    body: { model: upstreamModel, messages, max_tokens: 60_000, n: 2 },
  });
  expect(refused.status).toBe(429);
});
