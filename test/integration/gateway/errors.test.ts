// Every row of the error table, on the wire and as the SDK's classes.
import {
  APIError,
  AuthenticationError,
  BadRequestError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
} from "openai";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { End } from "#gen/drawbridge/v1/usage";
import { StopReason } from "#gen/drawbridge/v1/prompt";
import { DrawbridgeError, type Reason } from "../../../services/kit/errors.ts";
import { type ApiErrorBody, expectApiError, expectErrorKeys } from "../../support/api-error.ts";
import { all, allEvents, dataOf } from "../../support/event-stream.ts";
import { openTier } from "../../support/fleet.ts";
import {
  aborted,
  adminKey,
  adminOf,
  apiKey,
  failure,
  finished,
  type GatewayUnderTest,
  givenUser,
  model,
  says,
  saysUntilCancelled,
  type Script,
  started,
  startGatewayUnderTest,
  text,
} from "./harness.ts";

let gateway: GatewayUnderTest;

beforeAll(async () => {
  gateway = await startGatewayUnderTest({
    settings: { body_limit: "64KiB", input_tokens_max: 2_000 },
    prices: { [model]: { input: 1_000, output: 1_000 } },
    tiers: {
      few: { ...openTier, rpm: 1 },
      short: { ...openTier, tpm: 100 },
      narrow: { ...openTier, concurrency: 1 },
    },
  });
});

beforeEach(() => {
  gateway.engine.script = says("Hello");
  gateway.engine.refusal = undefined;
});

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

const path = "/v1/chat/completions";
const invalid = { status: 400, type: "invalid_request_error" } as const;
const messages = [{ role: "user" as const, content: "Hello?" }];
const body = (fields: object = {}) => ({ model, messages, max_tokens: 10, ...fields });
const post = (fields: object = {}, key?: string) =>
  gateway.request(path, { body: body(fields), ...(key === undefined ? {} : { apiKey: key }) });

async function thrown(fields: object = {}, key?: string): Promise<APIError> {
  const client = gateway.openai(key === undefined ? {} : { apiKey: key });
  const error: unknown = await client.chat.completions.create(body(fields)).catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(APIError);
  return error as APIError;
}

function throws(reason: Reason, fields: Parameters<typeof failure>[2] = {}): Script {
  // oxlint-disable-next-line require-yield -- a worker that fails before it says anything
  return async function* fails({ request }) {
    throw failure(request, reason, fields);
  };
}

describe("400", () => {
  it("malformed JSON", async () => {
    await expectApiError(await gateway.request(path, { body: '{"model":' }), { ...invalid, code: null });
    const response = await gateway.request(path, { method: "POST", headers: { "content-type": "application/json" } });
    await expectApiError(response, { ...invalid, code: null });
  });

  it("a body that would change what objects are", async () => {
    const response = await gateway.request(path, { body: '{"model":"m","__proto__":{"messages":[]}}' });
    await expectApiError(response, { ...invalid, code: null });
  });

  it("a wrong field, by name", async () => {
    await expectApiError(await post({ temperature: 3 }), { ...invalid, code: "invalid_value", param: "temperature" });
    await expectApiError(await post({ n: 2 }), { ...invalid, code: "unsupported_parameter", param: "n" });
    const custom = { tools: [{ type: "custom", custom: { name: "f" } }] };
    await expectApiError(await post(custom), { ...invalid, code: "invalid_value", param: "tools[0].type" });
    await expectApiError(await post({ x: 1 }), { ...invalid, code: "unknown_parameter", param: "x" });
    expect(await thrown({ stop: 1 })).toBeInstanceOf(BadRequestError);
  });

  it("an image by address", async () => {
    const content = [{ type: "image_url", image_url: { url: "http://localhost/" } }];
    const response = await post({ messages: [{ role: "user", content }] });
    await expectApiError(response, { ...invalid, code: null, param: "messages[0].content[0].image_url.url" });
  });

  it("a prompt that is too long for the gateway, or for the agent", async () => {
    const long = await post({ messages: [{ role: "user", content: "word ".repeat(3_000) }] });
    await expectApiError(long, { ...invalid, code: "context_length_exceeded", param: "messages" });
    gateway.engine.script = throws("CONTEXT_LENGTH_EXCEEDED");
    await expectApiError(await post(), { ...invalid, code: "context_length_exceeded", param: "messages" });
  });

  it("what the agent cannot take, by the name of its field", async () => {
    gateway.engine.script = throws("UNSUPPORTED_CONTENT");
    const refused = { ...invalid, code: "unsupported_content" } as const;
    const tools = [{ type: "function", function: { name: "f" } }];
    const image_url = { url: "data:image/png;base64,AA==" };
    const messages = [{ role: "user", content: [{ type: "image_url", image_url }] }];
    await expectApiError(await post({ tools }), { ...refused, param: "tools" });
    await expectApiError(await post({ messages }), { ...refused, param: "messages" });
    await expectApiError(await post({ messages, tools }), refused);
  });

  it("an Idempotency-Key without end", async () => {
    const response = await gateway.request(path, { body: body(), headers: { "idempotency-key": "k".repeat(300) } });
    await expectApiError(response, { ...invalid, code: null });
  });
});

describe("401", () => {
  const refused = { status: 401, type: "invalid_request_error", code: "invalid_api_key" } as const;

  it("no key, a wrong scheme, an unknown key, the admin key", async () => {
    await expectApiError(await gateway.request(path, { apiKey: null, body: body() }), refused);
    const basic = { authorization: "Basic YTpi" };
    await expectApiError(await gateway.request(path, { apiKey: null, headers: basic, body: body() }), refused);
    await expectApiError(await post({}, "sk-unheard-of"), refused);
    await expectApiError(await post({}, adminKey), refused);
    await expectApiError(await gateway.request("/v1/models", { apiKey: null }), refused);
    expect(await thrown({}, "sk-unheard-of")).toBeInstanceOf(AuthenticationError);
  });

  it("says the same before it reads the body", async () => {
    await expectApiError(await gateway.request(path, { apiKey: "sk-unheard-of", body: "{" }), refused);
    await expectApiError(await gateway.request(path, { apiKey: "sk-unheard-of", body: "x".repeat(100_000) }), refused);
  });

  it("a revoked key, from the next request on", async () => {
    await givenUser(gateway, "revoked");
    const access = adminOf(gateway.app);
    const { key, secret } = await access.createApiKey({ userId: "revoked" });
    expect((await post({}, secret)).status).toBe(200);
    await access.revokeApiKey({ id: key?.id ?? "" });
    await expectApiError(await post({}, secret), refused);
  });

  it("an address that the key does not allow", async () => {
    await givenUser(gateway, "elsewhere");
    const access = adminOf(gateway.app);
    const { secret } = await access.createApiKey({ userId: "elsewhere", allowedAddresses: ["10.0.0.0/8"] });
    await expectApiError(await post({}, secret), refused);
    const here = await access.createApiKey({ userId: "elsewhere", allowedAddresses: ["127.0.0.0/8"] });
    expect((await post({}, here.secret)).status).toBe(200);
  });
});

describe("403, 404, 405, 413, 415", () => {
  it("a model that the key may not use", async () => {
    await givenUser(gateway, "restricted");
    const { secret } = await adminOf(gateway.app).createApiKey({ userId: "restricted", models: ["another"] });
    await expectApiError(await post({}, secret), { status: 403, type: "permission_error", code: "model_not_allowed" });
    expect(await thrown({}, secret)).toBeInstanceOf(PermissionDeniedError);
    const listed = await gateway.request("/v1/models", { apiKey: secret });
    expect(await listed.json()).toEqual({ object: "list", data: [] });
    const one = await gateway.request(`/v1/models/${model}`, { apiKey: secret });
    await expectApiError(one, { status: 404, type: "invalid_request_error", code: "model_not_found" });
  });

  it("an unknown model", async () => {
    const expected = { status: 404, type: "invalid_request_error", code: "model_not_found" } as const;
    await expectApiError(await post({ model: "unheard-of" }), expected);
    await expectApiError(await gateway.request("/v1/models/a/b%2Fc"), expected);
    expect(await thrown({ model: "unheard-of" })).toBeInstanceOf(NotFoundError);
  });

  it("an unknown URL, without what stands behind its question mark", async () => {
    const response = await gateway.request("/v1/unheard-of?api_key=sk-secret", { body: {} });
    const { error } = await expectApiError(response, {
      status: 404,
      type: "invalid_request_error",
      code: "unknown_url",
    });
    expect(error.message).not.toContain("sk-secret");
  });

  it.each([
    ["/chat/completions", "/v1/chat/completions"],
    ["/v1/v1/chat/completions", "/v1/chat/completions"],
    ["/v1/completions/", "/v1/completions"],
    ["//v1//responses", "/v1/responses"],
  ])("an unknown URL that is nearly one: %s", async (url, meant) => {
    const response = await gateway.request(url, { body: {} });
    const { error } = await expectApiError(response, {
      status: 404,
      type: "invalid_request_error",
      code: "unknown_url",
    });
    expect(error.message).toContain(`Did you mean ${meant}?`);
  });

  it("an unknown URL below one that is known", async () => {
    for (const url of ["/v1/responses/resp_1/unheard-of", "/v1/responses/a/b/cancel"]) {
      const response = await gateway.request(url);
      await expectApiError(response, { status: 404, type: "invalid_request_error", code: "unknown_url" });
    }
  });

  it.each([
    ["GET", path, "POST"],
    ["DELETE", "/v1/models", "GET"],
    ["PUT", `/v1/models/${model}`, "GET"],
    ["GET", "/v1/chat/completions?stream=true", "POST"],
    ["PUT", "/v1/responses/resp_1", "GET, DELETE"],
    ["POST", "/v1/responses/resp_1?stream=true", "GET, DELETE"],
    ["GET", "/v1/responses/resp_1/cancel", "POST"],
    ["PATCH", "/v1/responses", "POST"],
  ])("a wrong method: %s %s", async (method, url, allow) => {
    const response = await gateway.request(url, { method });
    await expectApiError(response, { status: 405, type: "invalid_request_error", code: "method_not_supported" });
    expect(response.headers.get("allow")).toBe(allow);
  });

  it("a body over the limit, whether or not it says its length", async () => {
    const expected = { status: 413, type: "invalid_request_error", code: "request_too_large" } as const;
    await expectApiError(await gateway.request(path, { body: "x".repeat(70_000) }), expected);
    const answer = await gateway.raw(
      [
        `POST ${path} HTTP/1.1`,
        "host: gateway",
        `authorization: Bearer ${apiKey}`,
        "content-type: application/json",
        "transfer-encoding: chunked",
        "connection: close",
        "",
        `${(70_000).toString(16)}\r\n${"x".repeat(70_000)}\r\n0\r\n\r\n`,
      ].join("\r\n"),
    );
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    expect(answer).toContain('"code":"request_too_large"');
  });

  it("another type than JSON", async () => {
    for (const type of ["text/plain", "application/x-www-form-urlencoded"]) {
      const response = await gateway.request(path, { body: "{}", headers: { "content-type": type } });
      await expectApiError(response, { status: 415, type: "invalid_request_error", code: "unsupported_media_type" });
    }
  });
});

describe("429", () => {
  it("requests per minute", async () => {
    const key = await givenUser(gateway, "eager", { tier: "few" });
    expect((await post({}, key)).status).toBe(200);
    const response = await post({}, key);
    await expectApiError(response, { status: 429, type: "requests", code: "rate_limit_exceeded" });
    expectRetryAfter(response);
    expect(response.headers.get("x-ratelimit-remaining-requests")).toBe("0");
    expect(await thrown({}, key)).toBeInstanceOf(RateLimitError);
  });

  it("tokens per minute, now or for ever", async () => {
    const key = await givenUser(gateway, "talkative", { tier: "short" });
    const limited = { status: 429, type: "tokens", code: "rate_limit_exceeded" } as const;
    const never = await post({ max_tokens: 500 }, key);
    await expectApiError(never, limited);
    expectRetryAfter(never);
    expect(never.headers.get("x-should-retry")).toBe("false");
    expect((await post({ max_tokens: 80 }, key)).status).toBe(200);
    const later = await post({ max_tokens: 90 }, key);
    await expectApiError(later, limited);
    expectRetryAfter(later);
    expect(later.headers.get("x-should-retry")).toBeNull();
  });

  it("requests at the same time", async () => {
    const key = await givenUser(gateway, "crowded", { tier: "narrow" });
    gateway.engine.script = saysUntilCancelled;
    const first = await gateway.openai({ apiKey: key }).chat.completions.create({ ...body(), stream: true });
    const response = await post({}, key);
    await expectApiError(response, { status: 429, type: "requests", code: "rate_limit_exceeded" });
    expectRetryAfter(response);
    first.controller.abort();
  });

  it("no money left, of the user or of the key", async () => {
    const broke = await givenUser(gateway, "broke", { quotaMicros: 1 });
    const access = adminOf(gateway.app);
    await givenUser(gateway, "frugal");
    const { secret: frugal } = await access.createApiKey({ userId: "frugal", budgetMicros: 1n });
    for (const key of [broke, frugal]) {
      const response = await post({}, key);
      await expectApiError(response, { status: 429, type: "insufficient_quota", code: "insufficient_quota" });
      expect(response.headers.get("x-should-retry")).toBe("false");
    }
  });
});

describe("5xx before content", () => {
  const overloaded = { status: 503, type: "service_unavailable_error", code: "server_is_overloaded" } as const;

  it.each(["NO_CAPACITY", "NO_WORKER", "BREAKER_OPEN", "STATE_UNAVAILABLE"] as const)("503: %s", async (reason) => {
    gateway.engine.refusal = new DrawbridgeError(reason, "Nobody can take the request now.");
    for (const stream of [false, true]) {
      const response = await post({ stream });
      await expectApiError(response, overloaded);
      expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
      expect(response.headers.get("x-should-retry")).toBeNull();
    }
  });

  it("503, not to be tried again soon: the credits are gone", async () => {
    gateway.engine.refusal = new DrawbridgeError("CREDITS_EXHAUSTED", "Every account has spent its credits.");
    const response = await post();
    await expectApiError(response, overloaded);
    expect(response.headers.get("x-should-retry")).toBe("false");
    expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
  });

  it.each(["AGENT_CRASHED", "AGENT_ERROR", "AGENT_UNAUTHENTICATED", "AGENT_PROTOCOL", "WORKER_UNREACHABLE"] as const)(
    "502: %s on every attempt",
    async (reason) => {
      gateway.engine.script = throws(reason);
      for (const stream of [false, true]) {
        const response = await post({ stream });
        await expectApiError(response, { status: 502, type: "server_error", code: "upstream_error" });
      }
    },
  );

  it("504: the deadline passed", async () => {
    gateway.engine.script = throws("DEADLINE_EXCEEDED");
    await expectApiError(await post(), { status: 504, type: "server_error", code: "timeout" });
  });

  it("504: the client's own deadline passed", async () => {
    gateway.engine.script = async function* silent({ request, signal }) {
      yield started();
      await aborted(signal);
      throw failure(request, "DEADLINE_EXCEEDED");
    };
    for (const stream of [false, true]) {
      const headers = { "x-stainless-timeout": "0.2" };
      const response = await gateway.request(path, { body: body({ stream }), headers });
      await expectApiError(response, { status: 504, type: "server_error", code: "timeout" });
    }
  });

  it("500: our own bug, without its inside", async () => {
    // oxlint-disable-next-line require-yield -- a worker with a bug
    gateway.engine.script = async function* broken() {
      throw new TypeError("Cannot read properties of undefined (reading 'secret')");
    };
    const response = await post();
    const { error } = await expectApiError(response, { status: 500, type: "server_error", code: "internal_error" });
    expect(error.message).not.toContain("secret");
  });

  it("500, not 401: our own parts do not know each other", async () => {
    gateway.engine.refusal = new DrawbridgeError("UNAUTHENTICATED", "Set DRAWBRIDGE_INTERNAL_TOKEN.");
    const { error } = await expectApiError(await post(), { status: 500, type: "server_error", code: "internal_error" });
    expect(error.message).not.toContain("DRAWBRIDGE");
  });
});

describe("an error after content", () => {
  const after = { end: End.FAILED_AFTER_CONTENT, content: true, output: 1 } as const;
  const breaks: Script = async function* breaks({ request }) {
    yield started();
    yield text("Hel");
    throw failure(request, "AGENT_CRASHED", after);
  };

  it("is an event, then the end, without [DONE]", async () => {
    gateway.engine.script = breaks;
    const response = await post({ stream: true });
    expect(response.status).toBe(200);
    const events = await allEvents(response);
    const last = dataOf<ApiErrorBody>(events.at(-1) ?? "");
    expectErrorKeys(last);
    expect(last.error).toMatchObject({ type: "server_error", code: "upstream_error", param: null });
    expect(events.join("")).not.toContain("[DONE]");
    expect(events).toHaveLength(3);
  });

  it("is thrown by the SDK", async () => {
    gateway.engine.script = breaks;
    const stream = await gateway.openai().chat.completions.create({ ...body(), stream: true });
    await expect(all(stream)).rejects.toMatchObject({ code: "upstream_error", type: "server_error" });
  });

  it("is a status for whoever did not ask for a stream", async () => {
    gateway.engine.script = breaks;
    await expectApiError(await post(), { status: 502, type: "server_error", code: "upstream_error" });
  });

  it("is told too where somebody else ended the answer", async () => {
    gateway.engine.script = async function* interrupted({ request }) {
      yield started();
      yield text("Hel");
      yield finished(request, StopReason.CANCELLED, { end: End.CANCELLED });
    };
    const events = await allEvents(await post({ stream: true }));
    expect(dataOf<ApiErrorBody>(events.at(-1) ?? "").error.code).toBe("server_is_overloaded");
    await expectApiError(await post(), {
      status: 503,
      type: "service_unavailable_error",
      code: "server_is_overloaded",
    });
  });
});

describe("the SDK's own retries", () => {
  it("try an overloaded server again, and not a request without money", async () => {
    let asked = 0;
    gateway.engine.script = async function* second({ request }) {
      asked += 1;
      if (asked === 1) throw failure(request, "AGENT_RATE_LIMITED");
      yield text("Hello");
      yield finished(request);
    };
    const client = gateway.openai({ maxRetries: 2 });
    const answer = await client.chat.completions.create(body());
    expect(answer.choices[0]?.message.content).toBe("Hello");

    const key = await givenUser(gateway, "penniless", { quotaMicros: 1 });
    let sent = 0;
    const broke = gateway.openai({ apiKey: key, maxRetries: 2, onRequest: () => void (sent += 1) });
    await expect(broke.chat.completions.create(body())).rejects.toBeInstanceOf(RateLimitError);
    expect(sent).toBe(1);
  });
});

function expectRetryAfter(response: Response): void {
  expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
  expect(Number(response.headers.get("retry-after-ms"))).toBeGreaterThan(0);
}
