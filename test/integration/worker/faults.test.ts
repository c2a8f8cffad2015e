import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Role, StopReason } from "#gen/drawbridge/v1/prompt";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { End } from "#gen/drawbridge/v1/usage";
import { Health } from "#gen/drawbridge/v1/worker";
import { until } from "../../support/until.ts";
import { startWorker, type WorkerUnderTest } from "./harness.ts";

describe("an agent that fails during a prompt", () => {
  let worker: WorkerUnderTest;
  beforeAll(async () => {
    worker = await startWorker({
      settings: { line_limit: "1MiB", idle_timeout: "400ms", first_token_timeout: "400ms" },
    });
  });
  afterAll(() => worker[Symbol.asyncDispose]());

  const works = async () => {
    const { error, text } = await worker.prompt({ do: "answer", chunks: 1 });
    expect(error?.reason).toBeUndefined();
    expect(text).toBe("w0 w0 w0");
  };

  it("by dying before content", async () => {
    const { error, outcome } = await worker.prompt({ do: "die" });
    expect(error?.reason).toBe("AGENT_CRASHED");
    expect(outcome).toMatchObject({
      end: End.FAILED_BEFORE_CONTENT,
      content: false,
      reason: ErrorReason.AGENT_CRASHED,
    });
    expect(outcome?.usage).toBeUndefined();
    await works();
  });

  it("by dying after content, all of which arrives", async () => {
    const { error, outcome, text } = await worker.prompt({ do: "die", chunks: 4 });
    expect(error?.reason).toBe("AGENT_CRASHED");
    expect(text).toBe("w0 w0 w0w1 w1 w1w2 w2 w2w3 w3 w3");
    expect(outcome).toMatchObject({ end: End.FAILED_AFTER_CONTENT, content: true });
    expect(outcome?.usage?.outputTokens).toBeGreaterThan(0n);
    await works();
  });

  it("by dying while a grandchild holds its output open", async () => {
    const { error, outcome } = await worker.prompt({ do: "hold_stdout", chunks: 1 }, { timeoutMs: 10_000 });
    expect(error?.reason).toBe("AGENT_CRASHED");
    expect(outcome?.end).toBe(End.FAILED_AFTER_CONTENT);
    await works();
  });

  it("by silence before content", async () => {
    const { error, outcome } = await worker.prompt({ do: "hang" });
    expect(error?.reason).toBe("DEADLINE_EXCEEDED");
    expect(outcome).toMatchObject({ end: End.FAILED_BEFORE_CONTENT, reason: ErrorReason.DEADLINE_EXCEEDED });
    await works();
  });

  it("by silence after content", async () => {
    const { error, outcome, text } = await worker.prompt({ do: "hang", chunks: 2 });
    expect(error?.reason).toBe("DEADLINE_EXCEEDED");
    expect(text).not.toBe("");
    expect(outcome).toMatchObject({ end: End.TIMEOUT, content: true });
    await works();
  });

  it("by a line over the limit", async () => {
    const { error, outcome } = await worker.prompt({ do: "long_line", bytes: 3_000_000 });
    expect(error?.reason).toBe("AGENT_PROTOCOL");
    expect(outcome?.end).toBe(End.FAILED_BEFORE_CONTENT);
    await works();
  });

  it("by an empty answer", async () => {
    const { error, outcome } = await worker.prompt({ do: "empty" });
    expect(error?.reason).toBe("AGENT_ERROR");
    expect(outcome?.end).toBe(End.FAILED_BEFORE_CONTENT);
    await works();
  });

  it.each([
    ["AGENT_UNAUTHENTICATED", { code: -32000, message: "Authentication required" }],
    ["AGENT_UNAUTHENTICATED", { message: "The bearer token included in the request is invalid" }],
    [
      "AGENT_RATE_LIMITED",
      { message: "Internal error", data: "ThrottlingException: slow down, retry after 7 seconds" },
    ],
    ["AGENT_USAGE_LIMIT", { message: "You have reached your monthly limit" }],
    ["CONTEXT_LENGTH_EXCEEDED", { message: "prompt is too long: 300000 tokens" }],
    ["AGENT_ERROR", { message: "something else" }],
  ])("with an error that means %s", async (reason, fields) => {
    const { error, outcome } = await worker.prompt({ do: "error", ...fields });
    expect(error?.reason).toBe(reason);
    expect(outcome).toMatchObject({ end: End.FAILED_BEFORE_CONTENT, reason: ErrorReason[reason as "AGENT_ERROR"] });
    if (reason === "AGENT_RATE_LIMITED") {
      expect(error?.retryAfterMs).toBe(7_000);
      expect(outcome?.retryAt).toBeDefined();
    }
    await works();
  });

  it("with an error after content", async () => {
    const { error, outcome } = await worker.prompt({ do: "error", chunks: 2, message: "stream broke" });
    expect(error?.reason).toBe("AGENT_ERROR");
    expect(error?.message).toContain("stream broke");
    expect(outcome?.end).toBe(End.FAILED_AFTER_CONTENT);
  });

  it("by forgetting its session before content, which goes unnoticed once", async () => {
    const { text, error } = await worker.prompt({ do: "forget", text: "again " });
    expect(error?.reason).toBeUndefined();
    expect(text).toBe("again again again ");
    const again = await worker.prompt({ do: "forget", always: true });
    expect(again.error?.reason).toBe("AGENT_ERROR");
  });

  it("and delivers every outcome to the registry", async () => {
    const { attemptId } = await worker.prompt({ do: "die" });
    await until("the outcome is delivered", () => worker.registry.outcomes.get(attemptId));
    expect(worker.registry.outcomes.get(attemptId)?.reason).toBe(ErrorReason.AGENT_CRASHED);
  });
});

describe("an agent that reads nothing more", () => {
  it.each([
    ["short", 10],
    ["longer than its pipe", 1_000_000],
  ])("fails a prompt that is %s in time, and is ended", async (_, size) => {
    await using worker = await startWorker({
      agentArguments: ["--deaf"],
      settings: { first_token_timeout: "300ms", cancel_grace: "100ms", process_idle_timeout: "100ms" },
    });
    const { error } = await worker.prompt({ do: "answer", text: "x".repeat(size) });
    expect(error?.reason).toBe("DEADLINE_EXCEEDED");
    await until("one process is left", async () => (await worker.processes()).length === 1);
  });
});

describe("an agent that asks for what nobody serves", () => {
  it("is refused, however much it asks", async () => {
    await using worker = await startWorker();
    expect((await worker.prompt({ do: "ask", chunks: 2_000 })).text).toBe("2000 refused");
  });
});

describe("a prompt that is cancelled", () => {
  it("is cancelled also where the agent calls that an error", async () => {
    await using worker = await startWorker();
    const attemptId = "att_cancel_error";
    const { error, stopReason } = await worker.prompt(
      { do: "hang", chunks: 1, cancel_error: "Internal error: nothing to cancel" },
      {
        attemptId,
        async onEvents(batch) {
          if (batch.some(({ event }) => event.case === "text")) await worker.calls.cancelPrompt({ attemptId });
        },
      },
    );
    expect(error?.reason).toBeUndefined();
    expect(stopReason).toBe(StopReason.CANCELLED);
  });

  it("ends with finished and what was produced", async () => {
    await using worker = await startWorker();
    const attemptId = "att_cancel";
    const { events, outcome, stopReason, error, text } = await worker.prompt(
      { do: "hang", chunks: 3 },
      {
        attemptId,
        async onEvents(batch) {
          if (batch.some(({ event }) => event.case === "text")) {
            expect(await worker.calls.cancelPrompt({ attemptId })).toMatchObject({ found: true });
          }
        },
      },
    );
    expect(error?.reason).toBeUndefined();
    expect(events.at(-1)?.event.case).toBe("finished");
    expect(stopReason).toBe(StopReason.CANCELLED);
    expect(text).not.toBe("");
    expect(outcome).toMatchObject({ end: End.CANCELLED, content: true, attemptId });
    expect(outcome?.usage?.outputTokens).toBeGreaterThan(0n);
    expect(await worker.calls.cancelPrompt({ attemptId })).toMatchObject({ found: false });
    // The agent answered the cancel, so its process goes on.
    expect((await worker.prompt({ do: "answer" })).error?.reason).toBeUndefined();
    expect((await worker.pool()).processes).toBe(1);
  });

  it("ends within the bound though the agent ignores it, and the agent is killed", async () => {
    await using worker = await startWorker();
    const attemptId = "att_deaf";
    const { outcome, stopReason } = await worker.prompt(
      { do: "ignore_cancel", chunks: 1 },
      {
        attemptId,
        async onEvents(batch) {
          if (batch.some(({ event }) => event.case === "text")) await worker.calls.cancelPrompt({ attemptId });
        },
      },
    );
    expect(stopReason).toBe(StopReason.CANCELLED);
    expect(outcome?.end).toBe(End.CANCELLED);
    expect((await worker.prompt({ do: "answer" })).error?.reason).toBeUndefined();
  });

  it("by its caller leaving is cancelled at the agent and recorded", async () => {
    await using worker = await startWorker();
    const leaving = new AbortController();
    const { attemptId } = await worker.prompt(
      { do: "hang", chunks: 2 },
      {
        signal: leaving.signal,
        onEvents: (batch) => batch.some(({ event }) => event.case === "text") && leaving.abort(),
      },
    );
    const outcome = await until("the outcome is delivered", () => worker.registry.outcomes.get(attemptId));
    expect(outcome).toMatchObject({ end: End.CANCELLED, content: true });
    expect((await worker.prompt({ do: "answer" })).error?.reason).toBeUndefined();
  });

  it("by its caller breaking out of the stream is cancelled too", async () => {
    await using worker = await startWorker();
    await worker.ready();
    const attemptId = "att_break";
    const messages = [
      { role: Role.USER, parts: [{ part: { case: "text" as const, value: '{"do":"hang","chunks":1}' } }] },
    ];
    const request = {
      requestId: "req_1",
      attemptId,
      accountId: "account/1",
      prompt: { model: "test/model-1", messages },
    };
    for await (const _ of worker.calls.prompt(request)) break;
    const outcome = await until("the outcome is delivered", () => worker.registry.outcomes.get(attemptId));
    expect(outcome.end).toBe(End.CANCELLED);
  });

  it("by the call's deadline after content is a time-out", async () => {
    await using worker = await startWorker();
    await worker.ready();
    const { error, attemptId } = await worker.prompt({ do: "hang", chunks: 2 }, { timeoutMs: 400 });
    expect(error?.reason).toBe("DEADLINE_EXCEEDED");
    const outcome = await until("the outcome is delivered", () => worker.registry.outcomes.get(attemptId));
    expect(outcome).toMatchObject({ end: End.TIMEOUT, content: true });
  });

  it("while it waits leaves the queue", async () => {
    await using worker = await startWorker({ slots: 1, queue: 2 });
    await worker.ready();
    const running = worker.prompt({ do: "hang", chunks: 1 }, { attemptId: "att_1" });
    const waiting = worker.prompt({ do: "answer" }, { attemptId: "att_2" });
    const leaving = new AbortController();
    const left = worker.prompt({ do: "answer" }, { attemptId: "att_3", signal: leaving.signal });
    await until("two wait", async () => (await worker.pool()).queueDepth === 2);
    leaving.abort();
    await until("one waits", async () => (await worker.pool()).queueDepth === 1);
    await left;
    await worker.calls.cancelPrompt({ attemptId: "att_2" });
    const { stopReason, outcome, events } = await waiting;
    expect(stopReason).toBe(StopReason.CANCELLED);
    expect(outcome).toMatchObject({ end: End.CANCELLED, content: false });
    expect(outcome?.usage).toBeUndefined();
    expect(events).toHaveLength(1);
    await worker.calls.cancelPrompt({ attemptId: "att_1" });
    await running;
    await until("all is free", async () => (await worker.pool()).availableSlots === 1);
  });
});

describe("an agent that cannot be started", () => {
  it.each([
    ["crashes when it starts", { agentArguments: ["--crash", "initialize"] }, "AGENT_CRASHED"],
    ["crashes when it opens a session", { agentArguments: ["--crash", "session"] }, "AGENT_CRASHED"],
    ["is not there", { wrapper: ["no-such-program"] }, "AGENT_CRASHED"],
    [
      "is not logged in",
      { agentArguments: ["--fail-session", "-32000", "Authentication required"] },
      "AGENT_UNAUTHENTICATED",
    ],
    [
      "complains and hangs",
      { agentArguments: ["--start-delay-ms", "60000", "--stderr", "You are not logged in"] },
      "AGENT_UNAUTHENTICATED",
    ],
    [
      "is too slow",
      { agentArguments: ["--start-delay-ms", "60000"], settings: { initialize_timeout: "150ms" } },
      "DEADLINE_EXCEEDED",
    ],
    [
      "is too slow with a session",
      { agentArguments: ["--session-delay-ms", "60000"], settings: { session_timeout: "150ms" } },
      "DEADLINE_EXCEEDED",
    ],
    ["speaks another version", { agentArguments: ["--protocol", "2"] }, "AGENT_PROTOCOL"],
  ])("because it %s makes the pool unhealthy and fails its prompts", async (_, options, reason) => {
    await using worker = await startWorker(options);
    await until("the pool is unhealthy", async () => (await worker.pool()).health === Health.UNHEALTHY);
    const pool = await worker.pool();
    expect(pool.availableSlots).toBe(0);
    expect(pool.healthReason).not.toBe("");
    expect((await worker.prompt({ do: "answer" })).error?.reason).toBe(reason);
  });

  it("fails a prompt that waits for it, with an outcome", async () => {
    await using worker = await startWorker({ agentArguments: ["--crash", "initialize"] });
    const { error, outcome } = await worker.prompt({ do: "answer" });
    expect(error?.reason).toBe("AGENT_CRASHED");
    expect(outcome).toMatchObject({ end: End.FAILED_BEFORE_CONTENT, content: false });
  });

  it.each(["initialize", "session"])(
    "at %s just once goes unnoticed: another process takes the prompt",
    async (place) => {
      const folder = await mkdtemp(join(tmpdir(), "drawbridge-once-"));
      const agentArguments = ["--crash", place, "--once", join(folder, "crashed")];
      await using worker = await startWorker({ agentArguments });
      expect((await worker.prompt({ do: "answer" })).error?.reason).toBeUndefined();
      await rm(folder, { recursive: true });
    },
  );

  it("is used although it lists ways to log in", async () => {
    await using worker = await startWorker({ agentArguments: ["--login-methods"] });
    expect((await worker.prompt({ do: "answer" })).error?.reason).toBeUndefined();
  });

  it("is waited for when it is only slow", async () => {
    await using worker = await startWorker({ agentArguments: ["--start-delay-ms", "500"] });
    expect((await worker.pool()).health).toBe(Health.DEGRADED);
    const { error, text } = await worker.prompt({ do: "answer", chunks: 1 });
    expect(error?.reason).toBeUndefined();
    expect(text).toBe("w0 w0 w0");
  });
});
