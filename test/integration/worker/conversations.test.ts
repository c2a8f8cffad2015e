// A request that continues a conversation continues its session, with the new message only.
import { afterEach, describe, expect, it } from "vitest";
import type { Message } from "#gen/drawbridge/v1/prompt";
import { assistant, instruct, system, user } from "../../support/messages.ts";
import { until } from "../../support/until.ts";
import { type Answer, startWorker, type WorkerUnderTest, type WorkerUnderTestOptions } from "./harness.ts";

let worker: WorkerUnderTest;

afterEach(() => worker[Symbol.asyncDispose]());

async function start(options: WorkerUnderTestOptions = {}): Promise<void> {
  worker = await startWorker(options);
  await worker.ready();
}

function ask(messages: Message[], fields: object = {}): Promise<Answer> {
  return worker.prompt({ do: "answer" }, { prompt: { messages, conversationScope: "alice", ...fields } });
}

const long = "x".repeat(10_000);
const opening = [system(long), user("hello")];
const continued = [...opening, assistant("ok"), instruct({ do: "history" })];

/** What the agent says of the session in which it was asked. */
const prompts = (answer: Answer) => (JSON.parse(answer.text) as { prompts: number }).prompts;

describe("a conversation", () => {
  it("goes on in its session, which hears the new message alone", async () => {
    await start();
    const first = await ask(opening);
    expect(first.text).toBe("ok");
    expect(first.outcome?.conversation).toMatch(/^[0-9a-f]{64}$/);
    await until("the conversation is offered", async () =>
      (await worker.pool()).conversations.includes(first.outcome?.conversation ?? ""),
    );
    const second = await ask(continued);
    expect(prompts(second)).toBe(2);
    expect(second.outcome?.usage?.inputTokens).toBeLessThan(50n);
    expect(first.outcome?.usage?.inputTokens).toBeGreaterThan(500n);
    const third = await ask([...continued, assistant(second.text), instruct({ do: "history" })]);
    expect(prompts(third)).toBe(3);
    await until("the one conversation is offered", async () => (await worker.pool()).conversations.length === 1);
  });

  it.each([
    ["another scope", continued, { conversationScope: "bob" }],
    ["no scope", continued, { conversationScope: "" }],
    ["another system prompt", [system("short"), ...continued.slice(1)], {}],
    ["another answer", [...opening, assistant("okay"), instruct({ do: "history" })], {}],
  ])("does not go on for %s", async (_, messages, fields) => {
    await start();
    await ask(opening);
    expect(prompts(await ask(messages, fields))).toBe(1);
  });

  it("does not go on in a session whose answer was cut, failed, or left", async () => {
    await start();
    const cut = await ask([instruct({ do: "answer" })], { outputTokensMax: 1n });
    expect(cut.outcome?.conversation).toBe("");
    const failed = await ask([instruct({ do: "error" })]);
    expect(failed.outcome?.conversation).toBe("");
    expect((await worker.pool()).conversations).toEqual([]);
  });

  it("branches: the second to continue the same answer gets a session of its own", async () => {
    await start();
    await ask(opening);
    expect(prompts(await ask(continued))).toBe(2);
    expect(prompts(await ask(continued))).toBe(1);
  });

  it("takes no slot: others are answered by the same process meanwhile", async () => {
    await start();
    await ask(opening);
    const before = await worker.processes();
    expect((await ask([user("other")], { conversationScope: "bob" })).text).toBe("ok");
    expect(await worker.processes()).toEqual(before);
    expect(prompts(await ask(continued))).toBe(2);
  });

  it("spills over to another process while its own is busy", async () => {
    await start({ slots: 2, settings: { processes_min: 2 } });
    await until("both run", async () => (await worker.pool()).processes === 2);
    await ask(opening);
    const holding = new AbortController();
    const busy = worker.prompt({ do: "hang", chunks: 1 }, { signal: holding.signal });
    await until("the holder is busy", async () => (await worker.pool()).conversations.length === 0);
    expect(prompts(await ask(continued))).toBe(1);
    holding.abort();
    await busy;
  });

  it("is forgotten with its process", async () => {
    await start();
    await ask(opening);
    await worker.prompt({ do: "die" });
    await until("it is gone", async () => (await worker.pool()).conversations.length === 0);
    await worker.ready();
    expect(prompts(await ask(continued))).toBe(1);
  });

  it("is forgotten after its time, and when there are too many", async () => {
    await start({ settings: { conversations_max: 2, conversation_timeout: "1s" } });
    for (const name of ["a", "b", "c"]) await ask([user(name)]);
    await until("two are kept", async () => (await worker.pool()).conversations.length === 2);
    await until("none is kept", async () => (await worker.pool()).conversations.length === 0);
  });

  it("is told as a whole to a new session when the agent has lost the old one", async () => {
    await start();
    await ask(opening);
    const second = await ask([...opening, assistant("ok"), instruct({ do: "forget" })]);
    expect(second.error?.message).toBeUndefined();
    expect(second.outcome?.usage?.inputTokens).toBeGreaterThan(500n);
  });

  it("is not kept when none may be", async () => {
    await start({ settings: { conversations_max: 0 } });
    expect((await ask(opening)).outcome?.conversation).toBe("");
    expect(prompts(await ask(continued))).toBe(1);
  });
});

describe("instructions", () => {
  const messages = [system("Be brief."), instruct({ do: "instructions" })];
  const content = [{ type: "text", text: "Be brief." }];

  it.each(["append", "override"])("are given apart from the prompt where the agent takes them, to %s", async (mode) => {
    await start({ agentArguments: ["--system-prompt", mode] });
    expect(JSON.parse((await ask(messages)).text)).toEqual({ mode, content });
    const echoed = await ask([system("Be brief."), instruct({ do: "echo" })]);
    expect(echoed.text).toBe('{"do":"echo"}');
    expect(JSON.parse((await ask([instruct({ do: "instructions" })])).text)).toBeNull();
  });

  it("are part of the prompt elsewhere", async () => {
    await start();
    expect(JSON.parse((await ask(messages)).text)).toBeNull();
    expect((await ask([system("Be brief."), instruct({ do: "echo" })])).text).toContain("Be brief.");
  });
});
