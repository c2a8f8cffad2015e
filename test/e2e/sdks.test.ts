// One table of scenarios, run against the real product with each SDK that clients use.
import Anthropic from "@anthropic-ai/sdk";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { ChatOpenAI } from "@langchain/openai";
import { generateText, jsonSchema, streamText, tool } from "ai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ask, fleet, model, words } from "../support/fleet.ts";
import { startSystem, type System } from "../support/system.ts";

interface Answer {
  readonly text: string;
  readonly inputTokens: number;
  readonly outputTokens: number;
}

/** What the scenarios want of an SDK. */
interface Adapter {
  whole(system: System, prompt: string, key?: string): Promise<Answer>;
  streamed(system: System, prompt: string): Promise<string[]>;
  /** The calls of the tool "add" that an answer has. */
  calls(system: System, prompt: string): Promise<{ readonly name: string; readonly input: unknown }[]>;
}

const add = {
  name: "add",
  description: "Adds two numbers.",
  parameters: { type: "object" as const, properties: { a: { type: "number" as const } } },
};

const keyOf = (system: System, key?: string) => key ?? system.apiKey;
const user = (content: string) => [{ role: "user" as const, content }];

const openai: Adapter = {
  async whole(system, prompt, key) {
    const client = system.openai({ apiKey: keyOf(system, key) });
    const { choices, usage } = await client.chat.completions.create({ model, messages: user(prompt) });
    return {
      text: choices[0]?.message.content ?? "",
      inputTokens: usage?.prompt_tokens ?? 0,
      outputTokens: usage?.completion_tokens ?? 0,
    };
  },
  async streamed(system, prompt) {
    const stream = await system.openai().chat.completions.create({ model, messages: user(prompt), stream: true });
    const texts: string[] = [];
    for await (const { choices } of stream) texts.push(choices[0]?.delta.content ?? "");
    return texts;
  },
  async calls(system, prompt) {
    const tools = [{ type: "function" as const, function: add }];
    const stream = system.openai().chat.completions.stream({ model, messages: user(prompt), tools });
    const calls = (await stream.finalChatCompletion()).choices[0]?.message.tool_calls ?? [];
    return calls.flatMap((call) =>
      call.type === "function"
        ? [{ name: call.function.name, input: JSON.parse(call.function.arguments) as unknown }]
        : [],
    );
  },
};

const vercel: Adapter = {
  async whole(system, prompt, key) {
    const { text, usage } = await generateText({ model: vercelModel(system, key), prompt, maxRetries: 0 });
    return { text, inputTokens: usage.inputTokens ?? 0, outputTokens: usage.outputTokens ?? 0 };
  },
  async streamed(system, prompt) {
    const texts: string[] = [];
    for await (const text of streamText({ model: vercelModel(system), prompt, maxRetries: 0 }).textStream) {
      texts.push(text);
    }
    return texts;
  },
  async calls(system, prompt) {
    const tools = { add: tool({ description: add.description, inputSchema: jsonSchema(add.parameters) }) };
    const { toolCalls } = await generateText({ model: vercelModel(system), prompt, tools, maxRetries: 0 });
    return toolCalls.map(({ toolName, input }) => ({ name: toolName, input: input as unknown }));
  },
};

function vercelModel(system: System, key?: string) {
  return createOpenAICompatible({ name: "drawbridge", baseURL: `${system.url}/v1`, apiKey: keyOf(system, key) })(model);
}

const langchain: Adapter = {
  async whole(system, prompt, key) {
    const { text, usage_metadata: usage } = await langchainModel(system, key).invoke(prompt);
    return { text, inputTokens: usage?.input_tokens ?? 0, outputTokens: usage?.output_tokens ?? 0 };
  },
  async streamed(system, prompt) {
    const texts: string[] = [];
    for await (const { text } of await langchainModel(system).stream(prompt)) texts.push(text);
    return texts;
  },
  async calls(system, prompt) {
    const bound = langchainModel(system).bindTools([{ type: "function", function: add }]);
    const { tool_calls: calls = [] } = await bound.invoke(prompt);
    return calls.map(({ name, args }) => ({ name, input: args as unknown }));
  },
};

function langchainModel(system: System, key?: string) {
  return new ChatOpenAI({
    model,
    apiKey: keyOf(system, key),
    maxRetries: 0,
    configuration: { baseURL: `${system.url}/v1` },
  });
}

const anthropic: Adapter = {
  async whole(system, prompt, key) {
    const client = new Anthropic({ baseURL: system.url, apiKey: keyOf(system, key), maxRetries: 0 });
    const { content, usage } = await client.messages.create({ model, max_tokens: 1_000, messages: user(prompt) });
    const text = content.map((block) => (block.type === "text" ? block.text : "")).join("");
    return { text, inputTokens: usage.input_tokens, outputTokens: usage.output_tokens };
  },
  async streamed(system, prompt) {
    const client = new Anthropic({ baseURL: system.url, apiKey: system.apiKey, maxRetries: 0 });
    const texts: string[] = [];
    await client.messages
      .stream({ model, max_tokens: 1_000, messages: user(prompt) })
      .on("text", (text) => texts.push(text))
      .done();
    return texts;
  },
  async calls(system, prompt) {
    const client = new Anthropic({ baseURL: system.url, apiKey: system.apiKey, maxRetries: 0 });
    const tools = [{ name: add.name, description: add.description, input_schema: add.parameters }];
    const { content } = await client.messages
      .stream({ model, max_tokens: 1_000, messages: user(prompt), tools })
      .finalMessage();
    return content.flatMap((block) => (block.type === "tool_use" ? [{ name: block.name, input: block.input }] : []));
  },
};

let system: System;

beforeAll(async () => {
  system = await startSystem({ configuration: fleet() });
});

afterAll(async () => {
  await system[Symbol.asyncDispose]();
});

const prompt = ask({ do: "answer", chunks: 5 })[0]?.content ?? "";

describe.each([
  ["openai", openai],
  ["Vercel AI SDK", vercel],
  ["LangChain", langchain],
  ["Anthropic", anthropic],
])("%s", (_, sdk) => {
  it("gets a whole answer, with usage", async () => {
    const answer = await sdk.whole(system, prompt);
    expect(answer.text).toBe(words(5));
    expect(answer.inputTokens).toBeGreaterThan(0);
    expect(answer.outputTokens).toBeGreaterThan(0);
  });

  it("gets a streamed answer", async () => {
    expect((await sdk.streamed(system, prompt)).join("")).toBe(words(5));
  });

  it("is asked to run a tool", async () => {
    const calling = ask({ do: "call", calls: [{ name: "add", arguments: { a: 1 } }] })[0]?.content ?? "";
    expect(await sdk.calls(system, calling)).toEqual([{ name: "add", input: { a: 1 } }]);
  });

  it("is told of a failure that is not its own", async () => {
    const failing = ask({ do: "error" })[0]?.content ?? "";
    await expect(sdk.whole(system, failing)).rejects.toThrow(/agent failed to answer/i);
  });

  it("is told of a wrong key", async () => {
    await expect(sdk.whole(system, prompt, "sk-wrong-key-0123456789")).rejects.toThrow(/Incorrect API key/);
  });
});
