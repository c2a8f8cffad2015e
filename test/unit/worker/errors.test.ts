import { describe, expect, it } from "vitest";
import { agentError, classifyFailure, retryAfterMs } from "../../../services/worker/profiles/errors.ts";
import { kiroProfile } from "../../../services/worker/profiles/kiro.ts";

describe("an agent's failure", () => {
  it.each([
    ["You are not logged in, please log in with kiro-cli login", "AGENT_UNAUTHENTICATED"],
    [
      "Encountered an error in the response stream: The bearer token included in the request is invalid",
      "AGENT_UNAUTHENTICATED",
    ],
    ["AccessDeniedException: no", "AGENT_UNAUTHENTICATED"],
    ["HTTP 401", "AGENT_UNAUTHENTICATED"],
    ["Encountered an error in the response stream: ThrottlingException", "AGENT_RATE_LIMITED"],
    ["Too many requests", "AGENT_RATE_LIMITED"],
    ["HTTP status: 429", "AGENT_RATE_LIMITED"],
    ["You have reached your usage limit", "AGENT_USAGE_LIMIT"],
    ["Your input is too long", "CONTEXT_LENGTH_EXCEEDED"],
    ["maximum context length is 200000 tokens", "CONTEXT_LENGTH_EXCEEDED"],
    ["The model 'x' is not available", "AGENT_ERROR"],
    ["dispatch failure", undefined],
    ["line 4013 of the file", undefined],
  ])("%j means %s", (text, reason) => {
    expect(classifyFailure({ text }, kiroProfile.errors)).toBe(reason);
  });

  it("with ACP's own code means that somebody must log in", () => {
    expect(classifyFailure({ code: -32000, text: "whatever" }, [])).toBe("AGENT_UNAUTHENTICATED");
  });

  it.each([
    ["retry after 7 seconds", 7_000],
    ["Please try again in 1.5s", 1_500],
    ["wait 2 minutes", 120_000],
    ["retry in 250ms", 250],
    ["retry later", undefined],
  ])("%j asks to wait %s ms", (text, ms) => {
    expect(retryAfterMs(text)).toBe(ms);
  });

  it("is quoted shortly, without secrets", () => {
    const text = `boom   with\n my-secret-value ${"x".repeat(1_000)}`;
    const { message, reason } = agentError({ text }, [], ["my-secret-value"]);
    expect(reason).toBe("AGENT_ERROR");
    expect(message).toContain("boom with [redacted]");
    expect(message.length).toBeLessThan(400);
  });
});
