// Drawbridge as an OpenAI-type channel of other gateways: what they send to list models, to test a channel and to relay, and what they insist on
// in the answers. The requests are those of new-api (and one-api, from which it comes).
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startUpstream, type Upstream } from "../../support/upstream.ts";
import { type GatewayUnderTest, model, says } from "../gateway/harness.ts";
import { channelTo, ledgerOf, startWithChannels, upstreamModel } from "./given.ts";

let upstream: Upstream;
let gateway: GatewayUnderTest;
let requests = 0;

beforeAll(async () => {
  upstream = await startUpstream();
  const routed = channelTo(upstream, { models: { [upstreamModel]: "own-name", "text-embedding-x": "own-embedding" } });
  gateway = await startWithChannels([routed]);
  gateway.engine.script = says("Hello", " there");
});

afterAll(async () => {
  await ledgerOf(gateway, requests);
  await gateway[Symbol.asyncDispose]();
  await upstream[Symbol.asyncDispose]();
});

const messages = [{ role: "user", content: "hi" }];

async function post(path: string, body: object): Promise<Response> {
  requests += 1;
  return await gateway.request(path, { body });
}

/** A body in which the caller finds no error, whichever way it looks for one. */
async function noError(response: Response): Promise<Record<string, unknown>> {
  expect(response.status).toBe(200);
  const body = (await response.json()) as Record<string, unknown>;
  expect(body).not.toHaveProperty("error");
  return body;
}

/** The chunks of a stream as a relay reads them: lines that begin with "data:", to the end mark. */
async function chunksOf(response: Response): Promise<Record<string, unknown>[]> {
  expect(response.headers.get("content-type")).toContain("text/event-stream");
  const lines = (await response.text()).split("\n").filter((line) => line.startsWith("data:"));
  const payloads = lines.map((line) => line.slice("data:".length).trim());
  expect(payloads.at(-1)).toBe("[DONE]");
  return payloads.slice(0, -1).map((payload) => JSON.parse(payload) as Record<string, unknown>);
}

describe.each([
  ["the fleet", model],
  ["an upstream channel", upstreamModel],
])("in front of %s", (_name, name) => {
  test("the channel test: a short answer with usage", async () => {
    const request = { model: name, stream: false, messages, max_tokens: 16 };
    const body = await noError(await post("/v1/chat/completions", request));
    expect(body).toMatchObject({
      object: "chat.completion",
      model: name,
      choices: [{ message: { role: "assistant" } }],
    });
    expect(body["usage"]).toMatchObject({
      prompt_tokens: expect.any(Number),
      completion_tokens: expect.any(Number),
      total_tokens: expect.any(Number),
    });
  });

  test("one token, and the limit of reasoning models", async () => {
    for (const limit of [{ max_tokens: 1 }, { max_completion_tokens: 16 }]) {
      await noError(await post("/v1/chat/completions", { model: name, messages, ...limit }));
    }
  });

  test("the channel test, streamed: usage in a last chunk of its own", async () => {
    const stream = { stream: true, stream_options: { include_usage: true } };
    const request = { model: name, messages, max_tokens: 16, ...stream };
    const chunks = await chunksOf(await post("/v1/chat/completions", request));
    for (const chunk of chunks) expect(chunk).not.toHaveProperty("error");
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { total_tokens: expect.any(Number) } });
    expect(chunks.filter(({ usage }) => usage != null)).toHaveLength(1);
  });

  test("a relayed stream without usage has no key of that name", async () => {
    const chunks = await chunksOf(await post("/v1/chat/completions", { model: name, messages, stream: true }));
    expect(chunks.length).toBeGreaterThan(1);
    for (const chunk of chunks) expect(chunk).not.toHaveProperty("usage");
  });

  test("what a relay sends along for its own users", async () => {
    const own = { user: "their-user-42", metadata: { tag: "x" }, temperature: 1, top_p: 1, presence_penalty: 0 };
    await noError(await post("/v1/chat/completions", { model: name, messages, ...own }));
  });
});

test("the models, with its key and without the test of a model", async () => {
  const response = await gateway.request("/v1/models");
  const { object, data } = (await response.json()) as { object: string; data: { id: string }[] };
  expect(object).toBe("list");
  expect(data.map(({ id }) => id)).toEqual([upstreamModel, "test/model-1", "text-embedding-x"].toSorted());
});

test("the channel test of an embedding model, and of the responses API", async () => {
  const embedding = await noError(await post("/v1/embeddings", { model: "text-embedding-x", input: ["hello world"] }));
  expect(embedding).toMatchObject({ object: "list", data: [{ object: "embedding" }], usage: { total_tokens: 5 } });
  const response = await noError(
    await post("/v1/responses", { model: upstreamModel, input: [{ role: "user", content: "hi" }] }),
  );
  expect(response).toMatchObject({ object: "response", usage: { total_tokens: 18 } });
});

test("a relay disables a channel for a wrong key, and not for a wrong model", async () => {
  const wrongKey = await gateway.request("/v1/chat/completions", {
    body: { model, messages },
    apiKey: "sk-somebody-elses",
  });
  expect(wrongKey.status).toBe(401);
  expect(await wrongKey.json()).toMatchObject({ error: { code: "invalid_api_key" } });
  const wrongModel = await gateway.request("/v1/chat/completions", { body: { model: "nobody", messages } });
  expect(wrongModel.status).toBe(404);
  expect(await wrongModel.json()).toMatchObject({ error: { code: "model_not_found" } });
});
