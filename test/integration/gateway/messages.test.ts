// POST /v1/messages and what belongs to it, as Anthropic's SDK and as bytes.
import Anthropic from "@anthropic-ai/sdk";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Role, StopReason, ToolChoiceMode } from "#gen/drawbridge/v1/prompt";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { until } from "../../support/until.ts";
import {
  apiKey,
  batch,
  failure,
  finished,
  type GatewayUnderTest,
  givenUser,
  model,
  type Script,
  says,
  saysUntilCancelled,
  started,
  startGatewayUnderTest,
  text,
} from "./harness.ts";

let gateway: GatewayUnderTest;
let client: Anthropic;

beforeAll(async () => {
  gateway = await startGatewayUnderTest();
  client = new Anthropic({ apiKey, baseURL: gateway.url, maxRetries: 0 });
});

beforeEach(() => {
  gateway.engine.script = says("Hel", "lo");
  gateway.engine.refusal = undefined;
});

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

const path = "/v1/messages";
const messages = [{ role: "user" as const, content: "Hello?" }];
const asked = { model, max_tokens: 100, messages };
const add = { name: "add", description: "adds", input_schema: { type: "object" as const, properties: {} } };

/** Thinks, says something, and calls two tools. */
const callsTools: Script = async function* answer({ request }) {
  yield started();
  yield batch([{ event: { case: "reasoning", value: { text: "hm" } } }]);
  yield text("I add.");
  yield batch([{ event: { case: "toolCall", value: { index: 0, id: "c1", name: "add", argumentsJson: '{"a":' } } }]);
  yield batch([{ event: { case: "toolCall", value: { index: 0, argumentsJson: "1}" } } }]);
  yield batch([{ event: { case: "toolCall", value: { index: 1, id: "c2", name: "add", argumentsJson: "{}" } } }]);
  yield finished(request, StopReason.TOOL_CALLS, { input: 10, cached: 4, output: 5 });
};

describe("a message", () => {
  it("is what the SDK expects", async () => {
    const answer = await client.messages.create(asked);
    expect(answer).toMatchObject({
      type: "message",
      role: "assistant",
      model,
      content: [{ type: "text", text: "Hello" }],
      stop_reason: "end_turn",
      stop_sequence: null,
      usage: { input_tokens: 10, output_tokens: 5, cache_read_input_tokens: 0 },
    });
    expect(answer.id).toMatch(/^msg_/);
    expect(answer._request_id).toMatch(/^req_/);
  });

  it("may be thinking, text and calls of tools", async () => {
    gateway.engine.script = callsTools;
    const answer = await client.messages.create({
      ...asked,
      tools: [add],
      thinking: { type: "enabled", budget_tokens: 1_024 },
    });
    expect(answer.content).toMatchObject([
      { type: "thinking", thinking: "hm" },
      { type: "text", text: "I add." },
      { type: "tool_use", id: "c1", name: "add", input: { a: 1 } },
      { type: "tool_use", id: "c2", name: "add", input: {} },
    ]);
    expect(answer).toMatchObject({ stop_reason: "tool_use", usage: { input_tokens: 6, cache_read_input_tokens: 4 } });
  });

  it("hides reasoning that was not asked for", async () => {
    gateway.engine.script = callsTools;
    const answer = await client.messages.create({ ...asked, tools: [add] });
    expect(answer.content.map(({ type }) => type)).toEqual(["text", "tool_use", "tool_use"]);
  });

  it("tells which stop sequence it was", async () => {
    gateway.engine.script = async function* stops({ request }) {
      yield text("a");
      yield finished(request, StopReason.STOP_SEQUENCE, { stopSequence: "END" });
    };
    const stopping = { ...asked, stop_sequences: ["STOP", "END"] };
    const expected = { stop_reason: "stop_sequence", stop_sequence: "END" };
    expect(await client.messages.create(stopping)).toMatchObject(expected);
    expect(await client.messages.stream(stopping).finalMessage()).toMatchObject(expected);
  });
});

describe("a streamed message", () => {
  it("is these frames", async () => {
    gateway.engine.script = callsTools;
    const body = { ...asked, stream: true, tools: [add], thinking: { type: "adaptive" } };
    const response = await gateway.request(path, { body });
    expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    const frames = (await response.text()).split("\n\n").filter(Boolean);
    expect(frames.map((frame) => frame.split("\n")[0]?.replace("event: ", ""))).toEqual([
      "message_start",
      "ping",
      "content_block_start",
      "content_block_delta",
      "content_block_stop",
      "content_block_start",
      "content_block_delta",
      "content_block_stop",
      "content_block_start",
      "content_block_delta",
      "content_block_delta",
      "content_block_stop",
      "content_block_start",
      "content_block_delta",
      "content_block_stop",
      "message_delta",
      "message_stop",
    ]);
    for (const frame of frames) {
      const [event = "", data = ""] = frame.split("\n");
      expect(JSON.parse(data.slice("data: ".length))).toMatchObject({ type: event.slice("event: ".length) });
    }
  });

  it("is put together by the SDK", async () => {
    gateway.engine.script = callsTools;
    const stream = client.messages.stream({ ...asked, tools: [add] });
    const answer = await stream.finalMessage();
    expect(answer).toMatchObject({
      content: [
        { type: "text", text: "I add." },
        { type: "tool_use", id: "c1", input: { a: 1 } },
        { type: "tool_use", id: "c2", input: {} },
      ],
      stop_reason: "tool_use",
      usage: { input_tokens: 6, output_tokens: 5, cache_read_input_tokens: 4 },
    });
  });

  it("may be empty", async () => {
    gateway.engine.script = says();
    const answer = await client.messages.stream(asked).finalMessage();
    expect(answer).toMatchObject({ content: [], stop_reason: "end_turn" });
  });

  it("that fails after content says so", async () => {
    gateway.engine.script = async function* breaks({ request }) {
      yield text("Hel");
      throw failure(request, "AGENT_CRASHED", { content: true, usage: true });
    };
    const stream = client.messages.stream(asked);
    await expect(stream.finalMessage()).rejects.toMatchObject({ type: "api_error" });
  });

  it("that is left stops the agent", async () => {
    gateway.engine.script = saysUntilCancelled;
    const before = gateway.engine.cancels.length;
    const stream = client.messages.stream(asked);
    for await (const event of stream) if (event.type === "content_block_delta") break;
    await until("the agent was told", () => gateway.engine.cancels.length > before);
  });
});

describe("a conversation", () => {
  it("becomes a prompt", async () => {
    await client.messages.create({
      ...asked,
      system: [{ type: "text", text: "Be short.", cache_control: { type: "ephemeral" } }],
      messages: [
        { role: "user", content: "1+1?" },
        {
          role: "assistant",
          content: [
            { type: "thinking", thinking: "hm", signature: "s" },
            { type: "text", text: "I add." },
            { type: "tool_use", id: "c1", name: "add", input: { a: 1 } },
          ],
        },
        {
          role: "user",
          content: [
            { type: "tool_result", tool_use_id: "c1", content: [{ type: "text", text: "2" }] },
            { type: "text", text: "And this?" },
            { type: "image", source: { type: "base64", media_type: "image/png", data: "iVBORw0KGgo=" } },
          ],
        },
      ],
      tools: [add],
      tool_choice: { type: "tool", name: "add", disable_parallel_tool_use: true },
      output_config: { format: { type: "json_schema", schema: { type: "object" } } },
    });
    const prompt = gateway.engine.prompts.at(-1);
    expect(prompt?.messages.map(({ role }) => role)).toEqual([
      Role.SYSTEM,
      Role.USER,
      Role.ASSISTANT,
      Role.TOOL,
      Role.USER,
    ]);
    expect(prompt?.messages[2]?.toolCalls).toMatchObject([{ id: "c1", name: "add", argumentsJson: '{"a":1}' }]);
    expect(prompt?.messages[3]).toMatchObject({ toolCallId: "c1" });
    expect(prompt?.messages[4]?.parts.map(({ part }) => part.case)).toEqual(["text", "image"]);
    expect(prompt?.toolChoice).toMatchObject({ mode: ToolChoiceMode.REQUIRED, name: "add", single: true });
    expect(prompt?.responseFormat?.format.case).toBe("jsonSchema");
    expect(prompt?.outputTokensMax).toBe(100n);
  });

  it("is counted without being run", async () => {
    const before = gateway.engine.prompts.length;
    const { input_tokens } = await client.messages.countTokens({ model, messages, tools: [add] });
    expect(input_tokens).toBeGreaterThan(5);
    expect(gateway.engine.prompts.length).toBe(before);
  });
});

describe("an error", () => {
  const thrown = async (fields: object = {}, sdk = client) =>
    sdk.messages.create({ ...asked, ...fields }).then(
      () => undefined,
      (error: unknown) => error,
    );

  it.each([
    ["a wrong field", { max_tokens: 0 }, 400, "invalid_request_error"],
    ["a server's tool", { tools: [{ type: "web_search_20250305", name: "web_search" }] }, 400, "invalid_request_error"],
    ["a begun answer", { messages: [...messages, { role: "assistant", content: "I" }] }, 400, "invalid_request_error"],
    [
      "an image by address",
      { messages: [{ role: "user", content: [{ type: "image", source: { type: "url", url: "http://x/" } }] }] },
      400,
      "invalid_request_error",
    ],
    ["no such model", { model: "none" }, 404, "not_found_error"],
  ])("of %s has Anthropic's form", async (_, fields, status, type) => {
    expect(await thrown(fields)).toMatchObject({ status, type, requestID: expect.stringMatching(/^req_/) });
  });

  it("of a key", async () => {
    const other = new Anthropic({ apiKey: "sk-wrong", baseURL: gateway.url, maxRetries: 0 });
    expect(await thrown({}, other)).toMatchObject({ status: 401, type: "authentication_error" });
  });

  it("of the engine", async () => {
    gateway.engine.refusal = new DrawbridgeError("NO_CAPACITY", "Busy.", { retryAfterMs: 100 });
    expect(await thrown()).toMatchObject({ status: 529, type: "overloaded_error" });
    gateway.engine.refusal = new DrawbridgeError("DEADLINE_EXCEEDED", "Late.");
    expect(await thrown()).toMatchObject({ status: 504, type: "timeout_error" });
  });

  it("of money", async () => {
    const poor = await givenUser(gateway, "poor", { quotaMicros: 1 });
    const sdk = new Anthropic({ apiKey: poor, baseURL: gateway.url, maxRetries: 0 });
    expect(await thrown({}, sdk)).toMatchObject({ status: 402, type: "billing_error" });
  });

  it("of the URL", async () => {
    const response = await gateway.request("/v1/messages/batches", { body: {} });
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ type: "error", error: { type: "not_found_error" } });
    expect((await gateway.request(path)).status).toBe(405);
  });
});

describe("headers", () => {
  it("are Anthropic's too", async () => {
    const { response } = await client.messages.create(asked).withResponse();
    for (const name of ["requests", "tokens"]) {
      expect(Number(response.headers.get(`anthropic-ratelimit-${name}-limit`))).toBeGreaterThan(0);
      expect(response.headers.get(`anthropic-ratelimit-${name}-reset`)).toMatch(/^\d{4}-\d\d-\d\dT[\d:]+Z$/);
    }
    expect(response.headers.get("request-id")).toBe(response.headers.get("x-request-id"));
  });

  it("name what has no effect", async () => {
    const body = { ...asked, temperature: 0, thinking: { type: "enabled", budget_tokens: 1_024 } };
    const response = await gateway.request(path, { body });
    expect(response.headers.get("x-drawbridge-ignored-parameters")).toBe("temperature, thinking.budget_tokens");
  });

  it("take a bearer token too", async () => {
    const bearer = new Anthropic({ apiKey: null, authToken: apiKey, baseURL: gateway.url, maxRetries: 0 });
    expect(await bearer.messages.create(asked)).toMatchObject({ type: "message" });
  });
});

describe("models", () => {
  it("have Anthropic's form for its clients", async () => {
    const page = await client.models.list();
    expect(page.data).toMatchObject([{ type: "model", id: model, display_name: model }]);
    expect(await client.models.retrieve(model)).toMatchObject({ type: "model", id: model });
    await expect(client.models.retrieve("none")).rejects.toMatchObject({ status: 404, type: "not_found_error" });
  });

  it("come in pages", async () => {
    const known = gateway.engine.models;
    gateway.engine.models = ["a", "b", "c"].map((name) => ({ name, ready: true }));
    try {
      await until("the new models are known", async () => (await client.models.list()).data.length === 3);
      const names: string[] = [];
      for await (const each of client.models.list({ limit: 2 })) names.push(each.id);
      expect(names).toEqual(["a", "b", "c"]);
      const back = await client.models.list({ before_id: "c", limit: 1 });
      expect([back.data.map(({ id }) => id), back.has_more]).toEqual([["b"], true]);
    } finally {
      gateway.engine.models = known;
      await until("the model is known", async () => (await client.models.list()).data.length === 1);
    }
  });
});
