// Answers, whole and streamed, as the official SDK and as bytes.
import { connect } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { StopReason } from "#gen/drawbridge/v1/prompt";
import { all, allEvents } from "../../support/event-stream.ts";
import { until } from "../../support/until.ts";
import {
  apiKey,
  batch,
  finished,
  type GatewayUnderTest,
  model,
  says,
  started,
  startGatewayUnderTest,
  text,
} from "./harness.ts";

let gateway: GatewayUnderTest;

beforeAll(async () => {
  gateway = await startGatewayUnderTest({ settings: { keep_alive_interval: "50ms", stall_timeout: "1s" } });
});

beforeEach(() => {
  gateway.engine.script = says("Hel", "lo");
});

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

const path = "/v1/chat/completions";
const messages = [{ role: "user" as const, content: "Hello?" }];
const streamed = (fields: object = {}) => ({ model, messages, stream: true, ...fields });

/** The bytes of a stream, with what differs from answer to answer put in place. */
async function bytesOf(fields: object = {}): Promise<string> {
  const response = await gateway.request(path, { body: streamed(fields) });
  expect(response.status).toBe(200);
  const bytes = await response.text();
  return bytes.replace(/"id":"chatcmpl-[0-9a-z]{24}"/g, '"id":ID').replace(/"created":\d{10}/g, '"created":TIME');
}

const head = `data: {"id":ID,"object":"chat.completion.chunk","created":TIME,"model":"${model}"`;
const chunk = (delta: string, finish = "null", tail = "") =>
  `${head},"choices":[{"index":0,"delta":${delta},"finish_reason":${finish}}]${tail}}\n\n`;

describe("a whole answer", () => {
  it("is what the SDK expects", async () => {
    const answer = await gateway.openai().chat.completions.create({ model, messages });
    expect(answer).toMatchObject({
      object: "chat.completion",
      model,
      choices: [{ index: 0, message: { role: "assistant", content: "Hello" }, finish_reason: "stop" }],
      usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 },
    });
    expect(answer.id).toMatch(/^chatcmpl-/);
    expect(answer).not.toHaveProperty("error");
  });

  it("may be empty", async () => {
    gateway.engine.script = says();
    const answer = await gateway.openai().chat.completions.create({ model, messages });
    expect(answer.choices[0]).toMatchObject({ message: { content: "" }, finish_reason: "stop" });
  });

  it("ends for the reason that the worker told", async () => {
    gateway.engine.script = async function* limited({ request }) {
      yield started();
      yield text("Hel");
      yield finished(request, StopReason.MAX_TOKENS);
    };
    const answer = await gateway.openai().chat.completions.create({ model, messages, max_tokens: 3 });
    expect(answer.choices[0]?.finish_reason).toBe("length");
    expect(gateway.engine.prompts.at(-1)?.outputTokensMax).toBe(3n);
  });
});

describe("a streamed answer", () => {
  it("is these bytes", async () => {
    expect(await bytesOf()).toBe(
      chunk('{"role":"assistant","content":""}') +
        chunk('{"content":"Hel"}') +
        chunk('{"content":"lo"}') +
        chunk("{}", '"stop"') +
        "data: [DONE]\n\n",
    );
  });

  it("with usage is these bytes", async () => {
    const none = ',"usage":null';
    expect(await bytesOf({ stream_options: { include_usage: true } })).toBe(
      chunk('{"role":"assistant","content":""}', "null", none) +
        chunk('{"content":"Hel"}', "null", none) +
        chunk('{"content":"lo"}', "null", none) +
        chunk("{}", '"stop"', none) +
        `${head},"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,` +
        '"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}\n\n' +
        "data: [DONE]\n\n",
    );
  });

  it("that is empty has its role and its end", async () => {
    gateway.engine.script = says();
    expect(await bytesOf()).toBe(
      `${chunk('{"role":"assistant","content":""}')}${chunk("{}", '"stop"')}data: [DONE]\n\n`,
    );
  });

  it("keeps a frame on one line for readers that break lines where Unicode does", async () => {
    gateway.engine.script = says("one\u2028two\u2029three\u0085four");
    const bytes = await bytesOf();
    expect(bytes).not.toMatch(/[\u2028\u2029\u0085]/);
    expect(bytes).toContain(String.raw`{"content":"one\u2028two\u2029three\u0085four"}`);
  });

  it("has reasoning and calls of tools, and skips what says nothing", async () => {
    gateway.engine.script = async function* thinks({ request }) {
      yield started();
      yield batch([
        { event: { case: "reasoning", value: { text: "hm" } } },
        { event: { case: "text", value: { text: "" } } },
      ]);
      yield batch([{ event: { case: "toolCall", value: { index: 0, id: "call_1", name: "add", argumentsJson: "" } } }]);
      yield batch([{ event: { case: "toolCall", value: { index: 0, argumentsJson: "{}" } } }]);
      yield batch([{ event: { case: undefined } }]);
      yield finished(request, StopReason.TOOL_CALLS);
    };
    const call = '{"index":0,"id":"call_1","type":"function","function":{"name":"add","arguments":""}}';
    expect(await bytesOf()).toBe(
      chunk('{"role":"assistant","content":""}') +
        chunk('{"reasoning_content":"hm"}') +
        chunk(`{"tool_calls":[${call}]}`) +
        chunk('{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}') +
        chunk("{}", '"tool_calls"') +
        "data: [DONE]\n\n",
    );
    const answer = await gateway.openai().chat.completions.create({ model, messages });
    expect(answer.choices[0]?.message).toMatchObject({
      content: null,
      tool_calls: [{ id: "call_1", type: "function", function: { name: "add", arguments: "{}" } }],
    });
  });

  it("is read by the SDK, with the same id, time and model in every chunk", async () => {
    const stream = await gateway.openai().chat.completions.create({ model, messages, stream: true });
    const chunks = await all(stream);
    expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("")).toBe("Hello");
    expect(new Set(chunks.map(({ id, created, model: name }) => `${id} ${created} ${name}`)).size).toBe(1);
    expect(chunks.every((each) => !("usage" in each) && !("error" in each))).toBe(true);
  });

  it("commits to nothing before there is content", async () => {
    const speak = Promise.withResolvers<void>();
    gateway.engine.script = async function* hesitates({ request }) {
      yield started();
      await speak.promise;
      yield text("Hello");
      yield finished(request);
    };
    const received: string[] = [];
    const before = gateway.engine.prompts.length;
    const socket = connect(gateway.port, "127.0.0.1");
    socket.setEncoding("utf8").on("data", (part: string) => received.push(part));
    socket.write(rawPost(streamed()));
    await until("the prompt runs", () => gateway.engine.prompts.length > before);
    // Longer than several keep-alive comments would take.
    await new Promise((resolve) => setTimeout(resolve, 250));
    expect(received).toEqual([]);
    speak.resolve();
    await until("the answer has ended", () => received.join("").includes("[DONE]"));
    expect(received.join("")).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    socket.destroy();
  });

  it("is kept alive by comments while it is silent, and nothing else", async () => {
    gateway.engine.script = async function* pauses({ request }) {
      yield started();
      yield text("Hel");
      await new Promise((resolve) => setTimeout(resolve, 300));
      yield text("lo");
      yield finished(request);
    };
    const bytes = await bytesOf();
    const comments = bytes.split("\n\n").filter((event) => event.startsWith(":"));
    expect(comments.length).toBeGreaterThan(1);
    expect(new Set(comments)).toEqual(new Set([": ping"]));
    expect(bytes.endsWith("data: [DONE]\n\n")).toBe(true);
    expect(bytes).not.toMatch(/^(?:id|event|retry):/m);
    const stream = await gateway.openai().chat.completions.create({ model, messages, stream: true });
    expect((await all(stream)).map(({ choices }) => choices[0]?.delta.content ?? "").join("")).toBe("Hello");
  });

  it("has the headers of a stream, and no compression", async () => {
    const response = await gateway.request(path, { body: streamed(), headers: { "accept-encoding": "gzip, br" } });
    await allEvents(response);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      "x-accel-buffering": "no",
    });
    expect(response.headers.get("content-encoding")).toBeNull();
  });
});

describe("a client that does not read", () => {
  const socketOf = (body: object) => {
    const socket = connect(gateway.port, "127.0.0.1");
    socket.write(rawPost(body));
    socket.pause();
    return socket;
  };

  it("holds the worker back, and is let go after a while", async () => {
    let said = 0;
    let cancelled = false;
    gateway.engine.script = async function* floods({ request, cancelled: signal }) {
      yield started();
      for (; said < 2_000 && !signal.aborted; said++) yield text("x".repeat(64 << 10));
      cancelled = signal.aborted;
      yield finished(request, signal.aborted ? StopReason.CANCELLED : StopReason.END_TURN);
    };
    const socket = socketOf(streamed());
    await until("the client is let go", () => cancelled);
    // 128 MiB were to be said; what the sockets' own buffers take is far less.
    expect(said).toBeLessThan(1_000);
    socket.destroy();
  });

  it("has a whole answer held for it no longer than that", async () => {
    const leftEarly = async () => {
      const metrics = await (await gateway.request("/metrics", { apiKey: null })).text();
      return Number(
        /^drawbridge_requests_total\{[^}]*status="499"[^}]*end="finished"\} (\d+)$/m.exec(metrics)?.[1] ?? 0,
      );
    };
    const before = await leftEarly();
    const pieces = 24;
    gateway.engine.script = says(...Array.from({ length: pieces }, () => "x".repeat(1 << 20)));
    const socket = socketOf({ model, messages });
    await until("the answer is let go", async () => (await leftEarly()) > before);
    // What it finds when it reads at last is what the sockets' own buffers took.
    let bytes = 0;
    socket.on("data", (part) => void (bytes += part.length)).on("error", () => {});
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.resume();
    await closed;
    expect(bytes).toBeLessThan((pieces / 2) << 20);
  });
});

describe("every answer", () => {
  const limits = ["limit", "remaining", "reset"].flatMap((kind) => [
    `x-ratelimit-${kind}-requests`,
    `x-ratelimit-${kind}-tokens`,
  ]);

  it.each([
    ["whole", { body: { model, messages } }],
    ["streamed", { body: streamed() }],
    ["refused for its body", { body: { model } }],
    ["refused for its model", { body: { model: "unheard-of", messages } }],
    ["malformed", { body: "{" }],
    ["without a type", { body: "x", headers: { "content-type": "text/plain" } }],
  ])("carries its id, its time and the user's limits: %s", async (_, request) => {
    const response = await gateway.request(path, request);
    await response.text();
    expect(response.headers.get("x-request-id")).toMatch(/^req_/);
    expect(response.headers.get("openai-processing-ms")).toMatch(/^\d+$/);
    for (const name of limits) expect([name, response.headers.get(name)]).not.toContain(null);
  });

  it.each([
    ["no key", "/v1/models", { apiKey: null }],
    ["an unknown URL", "/v1/unheard-of", {}],
    ["a probe", "/healthz", { apiKey: null }],
  ])("carries its id and its time where nobody is known: %s", async (_, url, request) => {
    const response = await gateway.request(url, request);
    await response.text();
    expect(response.headers.get("x-request-id")).toMatch(/^req_/);
    expect(response.headers.get("openai-processing-ms")).toMatch(/^\d+$/);
  });

  it.each([false, true])("names the parameters that had no effect (stream: %s)", async (stream) => {
    const named = await gateway.request(path, { body: { model, messages, stream, temperature: 0, seed: 1 } });
    await named.text();
    expect(named.headers.get("x-drawbridge-ignored-parameters")).toBe("temperature, seed");
    const plain = await gateway.request(path, { body: { model, messages, stream } });
    await plain.text();
    expect(plain.headers.has("x-drawbridge-ignored-parameters")).toBe(false);
  });
});

describe("models", () => {
  it("are listed with all four fields, and found by an id with slashes", async () => {
    const entry = { id: model, object: "model", created: 1_700_000_000, owned_by: "drawbridge" };
    expect(await (await gateway.request("/v1/models")).json()).toEqual({ object: "list", data: [entry] });
    expect(await gateway.openai().models.retrieve(model)).toEqual(entry);
    expect(await (await gateway.request(`/v1/models/${model}`)).json()).toEqual(entry);
    expect(await (await gateway.request(`/v1/models/${encodeURIComponent(model)}`)).json()).toEqual(entry);
  });
});

function rawPost(body: object): string {
  const content = JSON.stringify(body);
  return [
    `POST ${path} HTTP/1.1`,
    "host: gateway",
    `authorization: Bearer ${apiKey}`,
    "content-type: application/json",
    `content-length: ${Buffer.byteLength(content)}`,
    "",
    content,
  ].join("\r\n");
}
