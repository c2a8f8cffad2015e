// Conversations, client tools and answer formats through the whole product, as the official SDK uses them.
import type { ChatCompletionMessageParam } from "openai/resources/chat/completions";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { idle, settledBooks } from "../support/books.ts";
import { all } from "../support/event-stream.ts";
import { account, ask, fleet, model, words } from "../support/fleet.ts";
import { startSystem, type System } from "../support/system.ts";

let system: System;

beforeAll(async () => {
  // One slot each, so that a turn which waits for its client must not keep it.
  system = await startSystem({
    configuration: fleet({
      accounts: [account("a-1", { slots: 1 }), account("a-2", { slots: 1 })],
      // Prompts of other tests take their time at one of the two, which must not cost it its conversations here.
      scheduler: { slow_ratio: 1_000 },
    }),
  });
});

afterAll(async () => {
  await system[Symbol.asyncDispose]();
});

async function clientOf(user: string) {
  const { key } = await system.admin.createUser(user, 10);
  return system.openai({ apiKey: key });
}

const weather = {
  type: "function" as const,
  function: { name: "get_weather", parameters: { type: "object", properties: { city: { type: "string" } } } },
};
const time = { type: "function" as const, function: { name: "get_time" } };
const tools = [weather, time];
const calls = [{ name: "get_weather", arguments: { city: "Oslo" } }, { name: "get_time" }];

describe("tools of the client", () => {
  it("are called and answered, whole", async () => {
    const client = await clientOf("whole-tools");
    const question = ask({ do: "call", calls });
    const first = await client.chat.completions.create({ model, tools, messages: question });
    const [choice] = first.choices;
    expect(choice?.finish_reason).toBe("tool_calls");
    if (!choice) throw new Error("no choice");
    await settledBooks(system.admin, "whole-tools");
    const results = (choice.message.tool_calls ?? []).map(
      ({ id }, index): ChatCompletionMessageParam => ({ role: "tool", tool_call_id: id, content: `result ${index}` }),
    );
    expect(results).toHaveLength(2);
    const messages = [...question, choice.message, ...results];
    const second = await client.chat.completions.create({ model, tools, messages });
    // The agent itself says this, in the turn in which it called.
    expect(second.choices[0]?.message.content).toContain("result 1");
    expect(second.choices[0]?.finish_reason).toBe("stop");
    const { usage } = await settledBooks(system.admin, "whole-tools");
    expect(usage).toHaveLength(2);
    expect(new Set(usage.map((entry) => entry.account)).size).toBe(1);
  });

  it("are called and answered, streamed", async () => {
    const client = await clientOf("streamed-tools");
    const question = ask({ do: "call", calls: calls.slice(0, 1), text: "Let me see." });
    const chunks = await all(await client.chat.completions.create({ model, tools, messages: question, stream: true }));
    const deltas = chunks.flatMap(({ choices }) => choices[0]?.delta.tool_calls ?? []);
    expect(deltas[0]).toMatchObject({ index: 0, type: "function", function: { name: "get_weather" } });
    expect(deltas.map((delta) => delta.function?.arguments ?? "").join("")).toBe('{"city":"Oslo"}');
    expect(chunks.at(-1)?.choices[0]?.finish_reason).toBe("tool_calls");
    const id = deltas[0]?.id ?? "";
    await settledBooks(system.admin, "streamed-tools");
    const messages: ChatCompletionMessageParam[] = [
      ...question,
      {
        role: "assistant",
        content: "Let me see.",
        tool_calls: [{ id, type: "function", function: { name: "get_weather", arguments: '{ "city": "Oslo" }' } }],
      },
      { role: "tool", tool_call_id: id, content: "rain" },
    ];
    const answer = await all(await client.chat.completions.create({ model, tools, messages, stream: true }));
    const text = answer.map(({ choices }) => choices[0]?.delta.content ?? "").join("");
    expect(text).toContain('"text":"rain"');
  });

  it("are called one at a time where the client wants it, and not at all", async () => {
    const client = await clientOf("single-tool");
    const messages = ask({ do: "call", calls });
    const one = await client.chat.completions.create({ model, tools, messages, parallel_tool_calls: false });
    expect(one.choices[0]?.message.tool_calls).toHaveLength(1);
    const none = await client.chat.completions.create({
      model,
      tools,
      messages: ask({ do: "tools" }),
      tool_choice: "none",
    });
    expect(none.choices[0]?.message.content).toBe("null");
  });
});

describe("a conversation", () => {
  it("goes on in the session of its agent, which hears the new message alone", async () => {
    const client = await clientOf("talker");
    const history: ChatCompletionMessageParam[] = [
      { role: "system", content: "Be brief. ".repeat(500) },
      ...ask({ do: "answer", chunks: 2 }),
    ];
    const first = await client.chat.completions.create({ model, messages: history });
    const answer = first.choices[0]?.message;
    expect(answer?.content).toBe(words(2));
    if (!answer) throw new Error("no answer");
    // A follow-up that comes before the fleet knows that the slot is free goes to the other account.
    await settledBooks(system.admin, "talker");
    await idle(system.admin);
    // What the store says is known to the scheduler a moment later.
    await new Promise((resolve) => setTimeout(resolve, 200));
    const second = await client.chat.completions.create({
      model,
      messages: [...history, answer, ...ask({ do: "history" })],
    });
    expect(JSON.parse(second.choices[0]?.message.content ?? "")).toMatchObject({ prompts: 2 });
    expect(first.usage?.prompt_tokens).toBeGreaterThan(1_000);
    expect(second.usage?.prompt_tokens).toBeLessThan(50);
  });

  it("is never continued for another user", async () => {
    const opening = ask({ do: "answer", chunks: 3 });
    const alice = await clientOf("alice");
    const answer = (await alice.chat.completions.create({ model, messages: opening })).choices[0]?.message;
    if (!answer) throw new Error("no answer");
    const bob = await clientOf("bob");
    const other = await bob.chat.completions.create({
      model,
      messages: [...opening, answer, ...ask({ do: "history" })],
    });
    expect(JSON.parse(other.choices[0]?.message.content ?? "")).toMatchObject({ prompts: 1 });
  });
});

describe("the form of an answer", () => {
  const place = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
  const format = (schema: Record<string, unknown>) => ({
    type: "json_schema" as const,
    json_schema: { name: "place", schema },
  });

  it("is kept, streamed too", async () => {
    const client = await clientOf("former");
    const messages = ask({ do: "answer", chunks: 1, text: '```json\n{"city":"Oslo"}\n```' });
    const whole = await client.chat.completions.create({ model, messages, response_format: format(place) });
    expect(whole.choices[0]?.message.content).toBe('{"city":"Oslo"}');
    const stream = await client.chat.completions.create({
      model,
      messages,
      response_format: { type: "json_object" },
      stream: true,
    });
    const text = (await all(stream)).map(({ choices }) => choices[0]?.delta.content ?? "").join("");
    expect(text).toBe('{"city":"Oslo"}');
  });

  it("that no agent keeps is an error, and costs nothing; a schema that is none is a bad request", async () => {
    const client = await clientOf("deformed");
    const messages = ask({ do: "answer", chunks: 1, text: "Oslo" });
    const kept = client.chat.completions.create({ model, messages, response_format: format(place) }, { maxRetries: 0 });
    await expect(kept).rejects.toMatchObject({ status: 502 });
    const bad = client.chat.completions.create({ model, messages, response_format: format({ type: "thing" }) });
    await expect(bad).rejects.toMatchObject({ status: 400 });
    const { user } = await settledBooks(system.admin, "deformed");
    expect(user.spent).toBe(0);
  });
});
