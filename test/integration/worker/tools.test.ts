// Client tools over the worker: the agent calls one, the turn is parked, the client's result resumes it.
import { afterEach, describe, expect, it } from "vitest";
import { type Message, StopReason, type Tool, ToolChoiceMode } from "#gen/drawbridge/v1/prompt";
import { End } from "#gen/drawbridge/v1/usage";
import { calling, instruct, tool, toolResult, user } from "../../support/messages.ts";
import { processesOf } from "../../support/system-processes.ts";
import { until } from "../../support/until.ts";
import { type Answer, startWorker, type WorkerUnderTest, type WorkerUnderTestOptions } from "./harness.ts";

let worker: WorkerUnderTest;

afterEach(() => worker[Symbol.asyncDispose]());

async function start(options: WorkerUnderTestOptions = {}): Promise<void> {
  worker = await startWorker(options);
  await worker.ready();
}

const tools: Tool[] = [tool("get_weather", { city: { type: "string" } }), tool("get_time")];

function ask(messages: Message[], fields: object = {}): Promise<Answer> {
  return worker.prompt({ do: "answer" }, { prompt: { messages, tools, conversationScope: "alice", ...fields } });
}

/** The calls that an answer ended with. */
function callsOf({ events }: Answer) {
  return events.flatMap(({ event }) => (event.case === "toolCall" ? [event.value] : []));
}

interface Result {
  readonly content: readonly { readonly text: string }[];
  readonly isError: boolean;
  readonly progress: number;
}

/** What the agent got from its calls, as it says. */
function heard({ text }: Answer): Result[] {
  return JSON.parse(text.slice(text.indexOf("["))) as Result[];
}

const weather = { name: "get_weather", arguments: { city: "Oslo" } };
const time = { name: "get_time" };
const request = (...calls: object[]) => instruct({ do: "call", calls } as { do: string });
const free = async () => (await worker.pool()).availableSlots;

describe("a tool of the client", () => {
  it("is offered, called, and answered in the same turn of the agent", async () => {
    await start();
    const question = request(weather);
    const first = await ask([question]);
    const [call] = callsOf(first);
    expect(call).toMatchObject({ index: 0, name: "get_weather", argumentsJson: '{"city":"Oslo"}' });
    expect(call?.id).toMatch(/^call_/);
    expect(first.stopReason).toBe(StopReason.TOOL_CALLS);
    expect(first.outcome).toMatchObject({ end: End.FINISHED, content: true });
    expect(first.outcome?.usage?.outputTokens).toBeGreaterThan(0n);
    const { conversation } = first.outcome ?? {};
    await until("the turn is offered", async () => (await worker.pool()).conversations.includes(conversation ?? ""));
    expect(await free()).toBe(1);

    if (!call) throw new Error("no call");
    const second = await ask([question, calling("", call), toolResult(call.id, "rain")]);
    expect(heard(second)).toMatchObject([{ content: [{ type: "text", text: "rain" }], isError: false }]);
    expect(second.stopReason).toBe(StopReason.END_TURN);
    expect(second.outcome).toMatchObject({ end: End.FINISHED });
    expect(second.attemptId).not.toBe(first.attemptId);
    await until("the slot is free", async () => (await free()) === 1);

    const third = await ask([
      question,
      calling("", call),
      toolResult(call.id, "rain"),
      calling(second.text),
      instruct({ do: "history" }),
    ]);
    expect(JSON.parse(third.text)).toMatchObject({ prompts: 2 });
  });

  it("is described to the agent as the client describes it", async () => {
    await start();
    const { text } = await ask([instruct({ do: "tools" })]);
    expect(JSON.parse(text)).toEqual([
      {
        name: "get_weather",
        description: "Does get_weather.",
        inputSchema: { type: "object", properties: { city: { type: "string" } } },
      },
      { name: "get_time", description: "Does get_time.", inputSchema: { type: "object", properties: {} } },
    ]);
  });

  it("is called beside others in one answer, with what was said before", async () => {
    await start();
    const question = instruct({ do: "call", calls: [weather, time], text: "Let me see. " } as { do: string });
    const first = await ask([question]);
    const calls = callsOf(first);
    expect(first.text).toBe("Let me see. ");
    expect(calls.map(({ index, name }) => [index, name])).toEqual([
      [0, "get_weather"],
      [1, "get_time"],
    ]);
    // In whichever order the results come.
    const results = calls.map(({ id, name }) => toolResult(id, `${name} done`)).reverse();
    const second = await ask([question, calling("Let me see.", ...calls), ...results]);
    expect(heard(second).map(({ content }) => content[0]?.text)).toEqual(["get_weather done", "get_time done"]);
  });

  it("is called one at a time where the client wants that", async () => {
    await start();
    const toolChoice = { single: true, mode: ToolChoiceMode.AUTO, name: "" };
    const question = request(weather, time);
    const first = await ask([question], { toolChoice });
    const [one, ...more] = callsOf(first);
    expect(more).toEqual([]);
    if (!one) throw new Error("no call");
    const messages = [question, calling("", one), toolResult(one.id, "rain")];
    const second = await ask(messages, { toolChoice });
    const [other] = callsOf(second);
    expect(other?.name).toBe("get_time");
    if (!other) throw new Error("no call");
    const third = await ask([...messages, calling("", other), toolResult(other.id, "noon")], { toolChoice });
    expect(heard(third).map(({ content }) => content[0]?.text)).toEqual(["rain", "noon"]);
  });

  it("is called again after its result", async () => {
    await start();
    const question = instruct({ do: "call", calls: [weather, time], one_by_one: true } as { do: string });
    const [one] = callsOf(await ask([question]));
    if (!one) throw new Error("no call");
    const messages = [question, calling("", one), toolResult(one.id, "rain")];
    const second = await ask(messages);
    expect(second.stopReason).toBe(StopReason.TOOL_CALLS);
    expect(callsOf(second)).toMatchObject([{ index: 0, name: "get_time" }]);
  });

  it("has its usage billed once: what the agent reports at the end, less what was billed for the call", async () => {
    await start();
    const usage = { inputTokens: 1_000, outputTokens: 200, totalTokens: 1_200 };
    const question = instruct({ do: "call", calls: [weather], usage } as { do: string });
    const first = await ask([question]);
    const [call] = callsOf(first);
    if (!call) throw new Error("no call");
    const second = await ask([question, calling("", call), toolResult(call.id, "rain")]);
    const sum = (field: "inputTokens" | "outputTokens") =>
      (first.outcome?.usage?.[field] ?? 0n) + (second.outcome?.usage?.[field] ?? 0n);
    expect([sum("inputTokens"), sum("outputTokens")]).toEqual([1_000n, 200n]);
  });
});

describe("a result that does not come", () => {
  it("in time ends the turn and frees the slot; one that comes later is answered in a new session", async () => {
    await start({ settings: { tool_park_timeout: "300ms" } });
    const question = request(weather);
    const [call] = callsOf(await ask([question]));
    await until("the turn is over", async () => (await worker.pool()).conversations.length === 0);
    if (!call) throw new Error("no call");
    const late = await ask([question, calling("", call), toolResult(call.id, "rain"), instruct({ do: "echo" })]);
    expect(late.text).toContain("ASSISTANT CALLS TOOL get_weather");
    expect(late.text).toContain("rain");
  });

  it("takes no slot: others are answered meanwhile, and the turn goes on all the same", async () => {
    await start();
    const question = request(weather);
    const [call] = callsOf(await ask([question]));
    expect((await worker.prompt({ do: "answer" })).error).toBeUndefined();
    const holding = new AbortController();
    const busy = worker.prompt({ do: "hang", chunks: 1 }, { signal: holding.signal });
    await until("the slot is taken", async () => (await free()) === 0);
    if (!call) throw new Error("no call");
    const second = await ask([question, calling("", call), toolResult(call.id, "rain")]);
    expect(heard(second)).toMatchObject([{ isError: false }]);
    holding.abort();
    await busy;
  });

  it("ends when too many others wait", async () => {
    await start({ settings: { tools_parked_max: 1 } });
    const first = await ask([request(weather)]);
    const second = await ask([request(time)]);
    expect(callsOf(second)).toHaveLength(1);
    await until("only the second waits", async () => {
      const { conversations } = await worker.pool();
      return conversations.length === 1 && conversations[0] === second.outcome?.conversation;
    });
    expect(first.outcome?.conversation).not.toBe("");
  });

  it("is no wait where the client cannot be known again", async () => {
    await start();
    const first = await ask([request(weather)], { conversationScope: "" });
    expect(first.stopReason).toBe(StopReason.TOOL_CALLS);
    expect(first.outcome?.conversation).toBe("");
    await until("the slot is free", async () => (await free()) === 1);
  });

  it("ends with the worker", async () => {
    await start();
    await ask([request(weather)]);
    await worker.app.drain();
    expect(await worker.processes()).toEqual([]);
  });

  it("ends with its process", async () => {
    await start();
    await ask([request(weather)]);
    const agents = (await processesOf(worker.directory)).filter(({ command }) => command.includes("faulty-agent"));
    for (const { pid } of agents) process.kill(pid, "SIGKILL");
    await until("the turn is over", async () => (await worker.pool()).conversations.length === 0);
    expect((await worker.prompt({ do: "answer" })).error).toBeUndefined();
  });
});

describe("the choice of tools", () => {
  it("none offers none", async () => {
    await start();
    const toolChoice = { single: false, mode: ToolChoiceMode.NONE, name: "" };
    expect((await ask([instruct({ do: "tools" })], { toolChoice })).text).toBe("null");
  });

  it("required is said to the agent, and an answer without a call is a failure", async () => {
    await start();
    const toolChoice = { single: false, mode: ToolChoiceMode.REQUIRED, name: "" };
    const answer = await ask([instruct({ do: "echo" })], { toolChoice });
    expect(answer.error?.reason).toBe("AGENT_ERROR");
    expect(answer.outcome?.end).toBe(End.FAILED_BEFORE_CONTENT);
    expect(callsOf(await ask([request(weather)], { toolChoice }))).toHaveLength(1);
  });

  it("of one refuses the others to the agent", async () => {
    await start();
    const toolChoice = { single: false, mode: ToolChoiceMode.REQUIRED, name: "get_time" };
    const first = await ask([request(weather, time)], { toolChoice });
    expect(callsOf(first).map(({ name }) => name)).toEqual(["get_time"]);
  });

  it.each([
    ["of a tool that is not there", { toolChoice: { single: false, mode: ToolChoiceMode.REQUIRED, name: "other" } }],
    ["of a tool where there are none", { tools: [], toolChoice: { mode: ToolChoiceMode.REQUIRED, name: "" } }],
    ["among two of the same name", { tools: [tool("a"), tool("a")] }],
    ["with parameters that are no schema", { tools: [{ ...tool("a"), parametersJson: "[]" }] }],
  ])("%s is refused", async (_, fields) => {
    await start();
    expect((await ask([user("hello")], fields)).error?.reason).toBe("INVALID_ARGUMENT");
  });
});

describe("an agent", () => {
  it("that takes no MCP server over HTTP refuses tools", async () => {
    await start({ agentArguments: ["--no-mcp"] });
    const { error } = await ask([user("hello")]);
    expect(error?.reason).toBe("UNSUPPORTED_CONTENT");
    expect(error?.message).toContain("tools");
    expect((await worker.prompt({ do: "answer" })).error).toBeUndefined();
  });

  it("that does not ask for the tools gets no prompt", async () => {
    await start({ agentArguments: ["--no-list"], settings: { tool_list_timeout: "200ms" } });
    expect((await ask([user("hello")])).error?.reason).toBe("AGENT_ERROR");
    expect((await worker.prompt({ do: "answer" })).error).toBeUndefined();
  });

  it("is refused every other permission in a session with tools", async () => {
    await start();
    expect((await ask([instruct({ do: "permission" })])).text).toContain('"no"');
  });

  it("of kiro under an API key refuses tools", async () => {
    worker = await startWorker({ profile: "kiro", env: { KIRO_API_KEY: { case: "value", value: "ksk_x" } } });
    const { error } = await ask([user("hello")]);
    expect(error?.reason).toBe("UNSUPPORTED_CONTENT");
    expect(error?.message).toContain("tools");
  });

  it("in a session with tools is cancelled when its client leaves", async () => {
    await start();
    const leaving = new AbortController();
    const answer = worker.prompt(
      { do: "hang", chunks: 1 },
      { prompt: { messages: [instruct({ do: "hang" })], tools }, signal: leaving.signal },
    );
    await until("it runs", async () => (await free()) === 0);
    leaving.abort();
    await answer;
    await until("the slot is free", async () => (await free()) === 1);
  });
});
