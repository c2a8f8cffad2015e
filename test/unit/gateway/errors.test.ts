import { describe, expect, it } from "vitest";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { AdmissionError } from "../../../services/gateway/access/refusals.ts";
import { engineFailure, errorAnswer } from "../../../services/gateway/openai/errors.ts";
import { DrawbridgeError, type Reason } from "../../../services/kit/errors.ts";
import type { AdmitRefusal } from "../../../services/state/state.ts";

const answer = (reason: Reason, retryAfterMs?: number) =>
  errorAnswer(new DrawbridgeError(reason, "Words.", retryAfterMs === undefined ? {} : { retryAfterMs }), {
    retryAfterMs: 1_500,
  });

const refused = (refusal: AdmitRefusal) =>
  errorAnswer(new AdmissionError(refusal, undefined, "m"), { retryAfterMs: 1_500 });

describe("the table", () => {
  it.each([
    ["INVALID_ARGUMENT", 400, "invalid_request_error", null],
    ["CONTEXT_LENGTH_EXCEEDED", 400, "invalid_request_error", "context_length_exceeded"],
    ["UNSUPPORTED_CONTENT", 400, "invalid_request_error", "unsupported_content"],
    ["UNAUTHENTICATED", 401, "invalid_request_error", "invalid_api_key"],
    ["MODEL_NOT_ALLOWED", 403, "permission_error", "model_not_allowed"],
    ["MODEL_NOT_FOUND", 404, "invalid_request_error", "model_not_found"],
    ["REQUESTS_LIMITED", 429, "requests", "rate_limit_exceeded"],
    ["TOKENS_LIMITED", 429, "tokens", "rate_limit_exceeded"],
    ["CONCURRENCY_LIMITED", 429, "requests", "rate_limit_exceeded"],
    ["INSUFFICIENT_QUOTA", 429, "insufficient_quota", "insufficient_quota"],
    ["NO_CAPACITY", 503, "service_unavailable_error", "server_is_overloaded"],
    ["NO_WORKER", 503, "service_unavailable_error", "server_is_overloaded"],
    ["QUEUE_FULL", 503, "service_unavailable_error", "server_is_overloaded"],
    ["BREAKER_OPEN", 503, "service_unavailable_error", "server_is_overloaded"],
    ["DRAINING", 503, "service_unavailable_error", "server_is_overloaded"],
    ["CREDITS_EXHAUSTED", 503, "service_unavailable_error", "server_is_overloaded"],
    ["STATE_UNAVAILABLE", 503, "service_unavailable_error", "server_is_overloaded"],
    ["AGENT_RATE_LIMITED", 503, "service_unavailable_error", "server_is_overloaded"],
    ["AGENT_CRASHED", 502, "server_error", "upstream_error"],
    ["AGENT_ERROR", 502, "server_error", "upstream_error"],
    ["AGENT_PROTOCOL", 502, "server_error", "upstream_error"],
    ["AGENT_UNAUTHENTICATED", 502, "server_error", "upstream_error"],
    ["WORKER_UNREACHABLE", 502, "server_error", "upstream_error"],
    ["DEADLINE_EXCEEDED", 504, "server_error", "timeout"],
    ["INTERNAL", 500, "server_error", "internal_error"],
  ] as const)("%s is %s %s %s", (reason, status, type, code) => {
    const { status: given, body } = answer(reason);
    expect({ status: given, type: body.error.type, code: body.error.code }).toEqual({ status, type, code });
  });

  it("has a row for every reason, with all four keys", () => {
    const reasons = Object.keys(ErrorReason).filter((name) => name !== "UNSPECIFIED" && Number.isNaN(Number(name)));
    expect(reasons.length).toBeGreaterThan(30);
    for (const reason of reasons) {
      const { body } = answer(reason as Reason);
      expect(Object.keys(body.error)).toEqual(["message", "type", "param", "code"]);
      expect(body.error.message).not.toBe("");
    }
  });

  it("names the field that it was told, and no other", () => {
    expect(answer("INSUFFICIENT_QUOTA").body.error.param).toBeNull();
    const { body } = errorAnswer(new DrawbridgeError("INVALID_ARGUMENT", "w"), {
      param: "stop",
      code: "invalid_value",
      retryAfterMs: 1,
    });
    expect(body.error).toMatchObject({ param: "stop", code: "invalid_value" });
  });

  it("says nothing of the inside", () => {
    for (const reason of [
      "INTERNAL",
      "STATE_UNAVAILABLE",
      "AGENT_ERROR",
      "WORKER_UNREACHABLE",
      "NOT_LEADER",
    ] as const) {
      expect(answer(reason).body.error.message).not.toContain("Words");
    }
  });
});

describe("what an SDK is told about trying again", () => {
  it("is when, where that helps", () => {
    expect(answer("NO_CAPACITY").headers).toEqual({ "retry-after": "2", "retry-after-ms": "1500" });
    expect(answer("NO_CAPACITY", 20).headers).toEqual({ "retry-after": "1", "retry-after-ms": "20" });
    expect(refused({ reason: "REQUESTS_LIMITED", scope: "user", limit: 60, retryAfterMs: 250.2 }).headers).toEqual({
      "retry-after": "1",
      "retry-after-ms": "251",
    });
    expect(refused({ reason: "CONCURRENCY_LIMITED", scope: "key", limit: 2 }).headers).toEqual({
      "retry-after": "2",
      "retry-after-ms": "1500",
    });
  });

  it("is not to, where the wait is longer than an SDK takes seriously", () => {
    expect(answer("AGENT_RATE_LIMITED", 61_000).headers).toMatchObject({
      "retry-after": "61",
      "x-should-retry": "false",
    });
    expect(answer("AGENT_RATE_LIMITED", 60_000).headers).not.toHaveProperty("x-should-retry");
  });

  it("is not to, where waiting does not help", () => {
    expect(answer("INSUFFICIENT_QUOTA").headers).toEqual({ "x-should-retry": "false" });
    expect(answer("CREDITS_EXHAUSTED").headers).toMatchObject({ "retry-after": "2", "x-should-retry": "false" });
    expect(
      refused({ reason: "TOKENS_LIMITED", scope: "user", limit: 60, retryAfterMs: undefined }).headers,
    ).toMatchObject({
      "x-should-retry": "false",
      "retry-after": "2",
    });
  });

  it("depends on the conflict of an idempotency key", () => {
    const conflict = (kind: "other_body" | "running" | "billed") =>
      refused({ reason: "IDEMPOTENCY_CONFLICT", conflict: kind, requestId: "r" });
    expect(conflict("running")).toMatchObject({ status: 409, headers: { "retry-after": "2" } });
    expect(conflict("running").headers).not.toHaveProperty("x-should-retry");
    for (const kind of ["other_body", "billed"] as const) {
      expect(conflict(kind).headers).toEqual({ "x-should-retry": "false" });
    }
  });

  it("is nothing, where the status says it", () => {
    for (const reason of ["AGENT_CRASHED", "INTERNAL", "MODEL_NOT_FOUND"] as const)
      expect(answer(reason).headers).toEqual({});
  });
});

describe("a failure behind the gateway", () => {
  it("is not the client's where our own parts refused each other", () => {
    for (const reason of ["UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_SUPPORTED"] as const) {
      expect(engineFailure(new DrawbridgeError(reason, "w")).reason).toBe("INTERNAL");
    }
    expect(engineFailure(new DrawbridgeError("NO_CAPACITY", "w", { retryAfterMs: 5 }))).toMatchObject({
      reason: "NO_CAPACITY",
      retryAfterMs: 5,
    });
    expect(engineFailure(new TypeError("bug")).reason).toBe("INTERNAL");
  });
});
