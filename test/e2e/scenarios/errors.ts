// Every refusal that a client can meet: the status, the type and the code, by the SDK's classes and as bytes.
import {
  type APIError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
} from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { expectApiError } from "../../support/api-error.ts";
import type { KeyOptions, NewKey } from "../../support/admin.ts";
import { idle } from "../../support/books.ts";
import { account, ask, fleet, model, openTier } from "../../support/fleet.ts";
import type { ServingSystem, StartServing } from "../../support/serving-system.ts";
import { until } from "../../support/until.ts";

const configuration = fleet({
  accounts: [
    account("a-1"),
    account("single", { models: { single: "agent-model" }, slots: 1, queue: 0 }),
    account("poor", { models: { poor: "agent-model" }, credits: 0 }),
    account("failing", { models: { failing: "agent-model" } }),
    account("slow", { models: { slow: "agent-model" } }),
  ],
  prices: { [model]: { input: 1_000, output: 1_000 } },
  tiers: {
    default: openTier,
    few: { ...openTier, rpm: 2 },
    short: { ...openTier, tpm: 50 },
    narrow: { ...openTier, concurrency: 1 },
  },
  gateway: { body_limit: "64KiB" },
  scheduler: { queue: { wait_max: "500ms" } },
  worker: { first_token_timeout: "1s" },
});

const path = "/v1/chat/completions";
const body = (fields: object = {}) => ({ model, messages: ask({ do: "answer" }), ...fields });

export function errorScenarios(start: StartServing): void {
  let system: ServingSystem;

  beforeAll(async () => {
    system = await start(configuration);
  });

  afterAll(async () => {
    await system?.[Symbol.asyncDispose]();
  });

  /** A user of their own, and a key of theirs. */
  async function keyOf(user: string, tier = "default", quota = 100, options?: KeyOptions): Promise<NewKey> {
    const first = await system.admin.createUser(user, quota, tier);
    return options ? await system.admin.createKey(user, options) : first;
  }

  /** What the SDK throws. */
  async function thrown(apiKey: string | undefined, fields: object = {}): Promise<APIError> {
    const client = system.openai(apiKey === undefined ? {} : { apiKey });
    try {
      await client.chat.completions.create(body(fields));
    } catch (error) {
      return error as APIError;
    }
    throw new Error("The request was answered.");
  }

  describe("a request that is wrong", () => {
    const invalid = { status: 400, type: "invalid_request_error" } as const;

    it.each([
      ["no JSON at all", "{", null, null],
      ["a JSON that is no object", "[]", null, null],
      ["no messages", { model }, "messages", "missing_required_parameter"],
      ["messages that are no list", { model, messages: "hello" }, "messages", "invalid_value"],
      ["no message", { model, messages: [] }, "messages", "invalid_value"],
      ["no model", { messages: ask({ do: "answer" }) }, "model", "missing_required_parameter"],
      ["an unknown role", { model, messages: [{ role: "king", content: "hi" }] }, "messages[0].role", "invalid_value"],
      ["a limit that is no number", body({ max_tokens: "many" }), "max_tokens", "invalid_value"],
      ["a negative limit", body({ max_tokens: -1 }), "max_tokens", "invalid_value"],
      ["too many stop sequences", body({ stop: ["a", "b", "c", "d", "e"] }), "stop", "invalid_value"],
      ["several answers at once", body({ n: 2 }), "n", "unsupported_parameter"],
      ["a tool that is no function", body({ tools: [{ type: "custom" }] }), "tools[0].type", "invalid_value"],
      ["an unknown field", body({ unheard_of: 1 }), "unheard_of", "unknown_parameter"],
    ])("%s", async (_, content, param, code) => {
      const response = await system.request(path, { body: content });
      await expectApiError(response, { ...invalid, code, param });
    });

    it("is a BadRequestError for the SDK", async () => {
      const error = await thrown(undefined, { temperature: "hot" });
      expect(error).toBeInstanceOf(BadRequestError);
      expect(error).toMatchObject({ param: "temperature", type: "invalid_request_error" });
      expect(error.requestID).toMatch(/^req_/);
    });

    it("a prompt that does not fit", async () => {
      const messages = ask({ do: "error", message: "prompt is too long: 300000 tokens > 200000 maximum" });
      const response = await system.request(path, { body: { model, messages } });
      await expectApiError(response, { ...invalid, code: "context_length_exceeded", param: "messages" });
    });

    it("a body over the limit", async () => {
      const huge = JSON.stringify(body({ user: "x".repeat(128 << 10) }));
      const response = await system.request(path, { body: huge });
      await expectApiError(response, { status: 413, type: "invalid_request_error", code: "request_too_large" });
    });

    it("an unknown URL", async () => {
      const response = await system.request("/v1/unheard-of", { body: {} });
      await expectApiError(response, { status: 404, type: "invalid_request_error", code: "unknown_url" });
    });

    it("an unknown model", async () => {
      const error = await thrown(undefined, { model: "unheard-of" });
      expect(error).toBeInstanceOf(NotFoundError);
      const response = await system.request(path, { body: body({ model: "unheard-of" }) });
      await expectApiError(response, {
        status: 404,
        type: "invalid_request_error",
        code: "model_not_found",
      });
    });
  });

  describe("a key that does not open", () => {
    const refused = { status: 401, type: "invalid_request_error", code: "invalid_api_key" } as const;

    it("no key", async () => {
      await expectApiError(await system.request(path, { apiKey: null, body: body() }), refused);
      await expectApiError(await system.request("/v1/models", { apiKey: null }), refused);
    });

    it("an unknown key, without a trace of it in the answer", async () => {
      const secret = "sk-unknown-0123456789";
      const { error } = await expectApiError(await system.request(path, { apiKey: secret, body: body() }), refused);
      expect(error.message).not.toContain(secret);
      expect(await thrown(secret)).toBeInstanceOf(AuthenticationError);
    });

    it("the admin key", async () => {
      await expectApiError(await system.request(path, { apiKey: system.adminKey, body: body() }), refused);
    });

    it("a revoked key", async () => {
      const { id, key } = await keyOf("revoked");
      expect((await system.request(path, { apiKey: key, body: body() })).status).toBe(200);
      await system.admin.revokeKey(id);
      await expectApiError(await system.request(path, { apiKey: key, body: body() }), refused);
    });

    it("an expired key", async () => {
      const { key } = await keyOf("expired", "default", 1, { expiresAt: Date.now() + 500 });
      const models = () => system.request("/v1/models", { apiKey: key });
      await until("the key has expired", async () => !(await models()).ok);
      await expectApiError(await models(), refused);
      await expectApiError(await system.request(path, { apiKey: key, body: body() }), refused);
    });

    it("a key from an address that it does not allow", async () => {
      const { key } = await keyOf("elsewhere", "default", 1, { allow: ["10.0.0.0/8"] });
      await expectApiError(await system.request(path, { apiKey: key, body: body() }), refused);
    });

    it("a key for another model", async () => {
      const { key } = await keyOf("restricted", "default", 1, { models: ["another"] });
      expect(await thrown(key)).toBeInstanceOf(PermissionDeniedError);
      const response = await system.request(path, { apiKey: key, body: body() });
      await expectApiError(response, {
        status: 403,
        type: "permission_error",
        code: "model_not_allowed",
      });
    });
  });

  describe("limits and money", () => {
    it("requests per minute", async () => {
      const { key } = await keyOf("eager", "few");
      for (let count = 0; count < 2; count++) {
        expect((await system.request(path, { apiKey: key, body: body() })).status).toBe(200);
      }
      const response = await system.request(path, { apiKey: key, body: body() });
      await expectApiError(response, { status: 429, type: "requests", code: "rate_limit_exceeded" });
      expectRetryAfter(response);
      expect(response.headers.get("x-ratelimit-limit-requests")).toBe("2");
      expect(response.headers.get("x-ratelimit-remaining-requests")).toBe("0");
      expect(await thrown(key)).toBeInstanceOf(RateLimitError);
    });

    it("tokens per minute", async () => {
      const { key } = await keyOf("talkative", "short");
      const first = await system.request(path, { apiKey: key, body: body({ max_tokens: 10 }) });
      expect(first.status).toBe(200);
      const response = await system.request(path, { apiKey: key, body: body({ max_tokens: 35 }) });
      await expectApiError(response, { status: 429, type: "tokens", code: "rate_limit_exceeded" });
      expectRetryAfter(response);
    });

    it("requests at the same time", async () => {
      const { key } = await keyOf("crowded", "narrow");
      await whileOneRuns(model, key, async () => {
        const response = await system.request(path, { apiKey: key, body: body() });
        await expectApiError(response, { status: 429, type: "requests", code: "rate_limit_exceeded" });
        expectRetryAfter(response);
      });
      // The worker is free a moment before the gateway has settled.
      const taken = async () => (await system.request(path, { apiKey: key, body: body() })).status === 200;
      await until("the place is free again", taken);
    });

    it.each(["the user's quota", "the key's budget"])("no money left in %s", async (whose) => {
      const { key } =
        whose === "the user's quota"
          ? await keyOf("broke", "default", 0.000001)
          : await keyOf("frugal", "default", 100, { budgetMicros: 1 });
      const response = await system.request(path, { apiKey: key, body: body() });
      await expectApiError(response, { status: 429, type: "insufficient_quota", code: "insufficient_quota" });
      expect(response.headers.get("x-should-retry")).toBe("false");
      expect(await thrown(key)).toBeInstanceOf(RateLimitError);
    });
  });

  describe("a fleet that cannot answer", () => {
    it("is overloaded when every place is taken", async () => {
      await whileOneRuns("single", undefined, async () => {
        const response = await system.request(path, { body: body({ model: "single" }) });
        await expectApiError(response, {
          status: 503,
          type: "service_unavailable_error",
          code: "server_is_overloaded",
        });
        expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
        expect(await thrown(undefined, { model: "single" })).toBeInstanceOf(InternalServerError);
      });
    });

    it("says not to come back soon when the credits are gone", async () => {
      const response = await system.request(path, { body: body({ model: "poor" }) });
      expect([429, 503]).toContain(response.status);
      expect(response.headers.get("x-should-retry")).toBe("false");
      await response.text();
    });

    it("fails when the agent failed on every attempt", async () => {
      const messages = ask({ do: "error", message: "something broke at the provider" });
      const response = await system.request(path, { body: { model: "failing", messages } });
      await expectApiError(response, { status: 502, type: "server_error", code: "upstream_error" });
      expect(await thrown(undefined, { model: "failing", messages })).toBeInstanceOf(InternalServerError);
    });

    it("gives up when nothing comes before the deadline", async () => {
      const response = await system.request(path, { body: { model: "slow", messages: ask({ do: "hang" }) } });
      await expectApiError(response, { status: 504, type: "server_error", code: "timeout" });
    });

    it("keeps the client's own deadline", async () => {
      const messages = ask({ do: "answer", chunks: 10_000, pause_ms: 100 });
      const response = await system.request(path, {
        body: { model: "slow", messages },
        headers: { "x-stainless-timeout": "1" },
      });
      await expectApiError(response, { status: 504, type: "server_error", code: "timeout" });
    });

    it("has its places back after all this", async () => {
      await idle(system.admin);
    });
  });

  /** Runs `act` while a stream of this model is open, and ends that stream. */
  async function whileOneRuns(name: string, apiKey: string | undefined, act: () => Promise<void>): Promise<void> {
    const stream = await system.openai(apiKey === undefined ? {} : { apiKey }).chat.completions.create({
      model: name,
      stream: true,
      messages: ask({ do: "answer", chunks: 10_000, pause_ms: 20 }),
    });
    try {
      for await (const chunk of stream) {
        if (!chunk.choices[0]?.delta.content) continue;
        await act();
        break;
      }
    } finally {
      stream.controller.abort();
    }
    await idle(system.admin);
  }
}

function expectRetryAfter(response: Response): void {
  expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
  expect(Number(response.headers.get("retry-after-ms"))).toBeGreaterThan(0);
}
