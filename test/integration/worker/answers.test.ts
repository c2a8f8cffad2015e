import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type PromptEvent, Role, StopReason } from "#gen/drawbridge/v1/prompt";
import { End, UsageSource } from "#gen/drawbridge/v1/usage";
import { countTokens } from "../../../services/kit/tokens.ts";
import { startWorker, type WorkerUnderTest } from "./harness.ts";

describe("an answer", () => {
  let worker: WorkerUnderTest;
  beforeAll(async () => {
    worker = await startWorker({ slots: 2 });
  });
  afterAll(() => worker[Symbol.asyncDispose]());

  it("begins with started, ends with finished, and has one outcome", async () => {
    const { events, text, outcome, stopReason, attemptId } = await worker.prompt({ do: "answer", chunks: 3 });
    const kinds = events.map(({ event }) => event.case);
    expect(kinds[0]).toBe("started");
    expect(kinds.at(-1)).toBe("finished");
    expect(text).toBe("w0 w0 w0w1 w1 w1w2 w2 w2");
    expect(stopReason).toBe(StopReason.END_TURN);
    expect(outcome).toMatchObject({ attemptId, end: End.FINISHED, content: true, workerId: "worker-1" });
    expect(outcome?.startedAt && outcome.firstContentAt && outcome.endedAt).toBeTruthy();
  });

  it("estimates usage where the agent reports none", async () => {
    const { text, outcome } = await worker.prompt({ do: "answer", chunks: 50, size: 9, thoughts: 2 });
    expect(outcome?.usage?.source).toBe(UsageSource.ESTIMATED);
    expect(Number(outcome?.usage?.outputTokens)).toBeGreaterThanOrEqual(countTokens(text));
    expect(Number(outcome?.usage?.reasoningTokens)).toBeGreaterThan(0);
    expect(Number(outcome?.usage?.inputTokens)).toBeGreaterThan(0);
    expect(outcome?.millicredits).toBeUndefined();
  });

  it("takes the caller's count of input tokens", async () => {
    const { outcome, events } = await worker.prompt({ do: "answer" }, { prompt: { inputTokensEstimate: 4_321n } });
    expect(outcome?.usage?.inputTokens).toBe(4_321n);
    expect(events[0]?.event.value).toMatchObject({ inputTokensEstimate: 4_321n });
  });

  it("takes the usage that the agent reports", async () => {
    const usage = { inputTokens: 116, cachedReadTokens: 7, outputTokens: 42, thoughtTokens: 3, totalTokens: 168 };
    const { outcome } = await worker.prompt({ do: "answer", usage });
    expect(outcome?.usage).toMatchObject({
      source: UsageSource.REPORTED,
      inputTokens: 123n,
      cachedInputTokens: 7n,
      outputTokens: 45n,
      reasoningTokens: 3n,
    });
  });

  it("keeps reasoning apart from text, in order", async () => {
    const { reasoning, text, events } = await worker.prompt({ do: "answer", thoughts: 2, chunks: 1 });
    expect(reasoning).toBe("w0 w0 w0w1 w1 w1");
    expect(text).toBe("w0 w0 w0");
    const kinds = events.map(({ event }) => event.case);
    expect(kinds.lastIndexOf("reasoning")).toBeLessThan(kinds.indexOf("text"));
  });

  it.each([
    ["refusal", StopReason.REFUSAL],
    ["max_tokens", StopReason.MAX_TOKENS],
    ["max_turn_requests", StopReason.MAX_TOKENS],
    ["a word of tomorrow", StopReason.END_TURN],
  ])("reads the agent's stop reason %s", async (word, reason) => {
    const { stopReason, outcome } = await worker.prompt({ do: "answer", stop_reason: word });
    expect(stopReason).toBe(reason);
    expect(outcome?.end).toBe(End.FINISHED);
  });

  it("ends exactly at the output limit, and the agent's turn with it", async () => {
    const { text, stopReason, outcome } = await worker.prompt(
      { do: "answer", chunks: 100_000, size: 12, pause_ms: 1 },
      { prompt: { outputTokensMax: 25n } },
    );
    expect(countTokens(text)).toBe(25);
    expect(stopReason).toBe(StopReason.MAX_TOKENS);
    expect(outcome).toMatchObject({ end: End.FINISHED, usage: { outputTokens: 25n } });
  });

  it("ends before a stop sequence that is split over chunks", async () => {
    const { text, stopReason, stopSequence, outcome } = await worker.prompt(
      { do: "answer", text: "one <st", chunks: 1 },
      { prompt: { stop: ["<stop>"] } },
    );
    expect(text).toBe("one <st");
    expect([stopReason, stopSequence]).toEqual([StopReason.END_TURN, ""]);
    expect(outcome?.end).toBe(End.FINISHED);
    const split = await worker.prompt(
      { do: "answer", text: "ab>one <st", chunks: 3, pause_ms: 5 },
      { prompt: { stop: ["never", "<stab>"] } },
    );
    expect(split.text).toBe("ab>one ");
    expect(split.stopReason).toBe(StopReason.STOP_SEQUENCE);
    expect(split.stopSequence).toBe("<stab>");
    expect(split.outcome?.end).toBe(End.FINISHED);
  });

  it("decodes characters that are split between writes and between chunks", async () => {
    expect((await worker.prompt({ do: "split_utf8" })).text).toBe("naïve — 漢字 😀");
    expect((await worker.prompt({ do: "split_surrogates" })).text).toBe("a😀b😀c");
  });

  it("is not disturbed by noise, other sessions' updates or unknown kinds", async () => {
    const { text, error } = await worker.prompt({ do: "noise", chunks: 2 });
    expect(error?.reason).toBeUndefined();
    expect(text).toBe("w0 w0 w0w1 w1 w1");
  });

  it("does not mix up updates that come after an answer with the next one", async () => {
    await worker.prompt({ do: "late" });
    const { text } = await worker.prompt({ do: "answer", chunks: 1, delay_ms: 30 });
    expect(text).toBe("w0 w0 w0");
  });

  it("merges what the agent says while its reader is slow, and loses nothing", async () => {
    const chunks = 20_000;
    let first = true;
    const { text, batches } = await worker.prompt(
      { do: "answer", chunks, size: 64 },
      {
        async onEvents(events: readonly PromptEvent[]) {
          if (first && events.some(({ event }) => event.case === "text")) {
            first = false;
            await new Promise((resolve) => setTimeout(resolve, 300));
          }
        },
      },
    );
    expect(text.length).toBe(chunks * 64);
    expect(batches).toBeLessThan(chunks / 10);
  });

  it("answers a conversation with the whole of it in one prompt", async () => {
    const say = (role: Role, text: string) => ({
      role,
      parts: [{ part: { case: "text" as const, value: text } }],
    });
    const { text } = await worker.prompt(
      { do: "echo" },
      {
        prompt: {
          messages: [
            say(Role.SYSTEM, "Be brief."),
            say(Role.USER, "First question"),
            say(Role.ASSISTANT, "First answer"),
            say(Role.USER, '{"do":"echo"}'),
          ] as never,
        },
      },
    );
    expect(text).toMatch(/Be brief\.[^]*First question[^]*First answer[^]*\{"do":"echo"\}$/);
  });

  it("refuses an image for an agent that takes none", async () => {
    const image = { case: "image" as const, value: { mediaType: "image/png", data: new Uint8Array([1]) } };
    const { error, outcome } = await worker.prompt(
      { do: "answer" },
      { prompt: { messages: [{ role: Role.USER, parts: [{ part: image }] }] as never } },
    );
    expect(error?.reason).toBe("UNSUPPORTED_CONTENT");
    expect(outcome).toMatchObject({ end: End.FAILED_BEFORE_CONTENT, content: false });
    expect(outcome?.usage).toBeUndefined();
  });
});
