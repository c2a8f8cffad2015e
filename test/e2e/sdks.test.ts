// One table of scenarios, run against the real product with each SDK that clients use.
import Anthropic from "@anthropic-ai/sdk";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { ChatOpenAI } from "@langchain/openai";
import { type BaseMessage, HumanMessage, ToolMessage } from "@langchain/core/messages";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import type OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { account, ask, fleet, type Instruction, model, openTier, words } from "../support/fleet.ts";
import { startSystem, type System } from "../support/system.ts";
import { until } from "../support/until.ts";

interface Answer {
  readonly text: string;
  readonly inputTokens: number;
  readonly outputTokens: number;
}

interface Options {
  readonly key?: string;
  readonly model?: string;
  readonly temperature?: number;
  /** Default 0. */
  readonly retries?: number;
}

/** What the scenarios want of an SDK. */
interface Adapter {
  whole(system: System, prompt: string, options?: Options): Promise<Answer>;
  /** With usage, where the SDK can be asked for it. Leaves after so many pieces, where a number is given. */
  streamed(system: System, prompt: string, options?: Options & { readonly leaveAfter?: number }): Promise<Answer>;
  /** Runs the tool "add", which answers with 3, for as long as it is called; the last answer, and the calls' inputs. */
  withTool(system: System, prompt: string, key: string): Promise<{ readonly text: string; readonly inputs: unknown[] }>;
  /** The HTTP status that an error tells. */
  status(error: unknown): number | undefined;
}

const add = {
  name: "add",
  description: "Adds two numbers.",
  parameters: { type: "object" as const, properties: { a: { type: "number" as const } } },
};

const toolResult = "3";
const keyOf = (system: System, { key }: Options) => key ?? system.apiKey;
/** Absent, not undefined, where there is none: some SDKs would send it. */
const temperatureOf = ({ temperature }: Options) => (temperature === undefined ? {} : { temperature });
const user = (content: string) => ({ role: "user" as const, content });
const statusField = (error: unknown) => (error as { status?: number }).status;

const openai: Adapter = {
  async whole(system, prompt, options = {}) {
    const { choices, usage } = await openaiClient(system, options).chat.completions.create({
      model: options.model ?? model,
      messages: [user(prompt)],
      ...temperatureOf(options),
    });
    return answer(choices[0]?.message.content, usage?.prompt_tokens, usage?.completion_tokens);
  },
  async streamed(system, prompt, options = {}) {
    const stream = await openaiClient(system, options).chat.completions.create({
      model,
      messages: [user(prompt)],
      stream: true,
      stream_options: { include_usage: true },
    });
    const parts = pieces(options.leaveAfter);
    let read = answer("");
    for await (const { choices, usage } of stream) {
      if (usage) read = answer("", usage.prompt_tokens, usage.completion_tokens);
      if (parts.take(choices[0]?.delta.content)) break;
    }
    return { ...read, text: parts.text() };
  },
  async withTool(system, prompt, key) {
    const client = openaiClient(system, { key });
    const tools = [{ type: "function" as const, function: add }];
    const messages: OpenAI.ChatCompletionMessageParam[] = [user(prompt)];
    const inputs: unknown[] = [];
    for (;;) {
      const stream = client.chat.completions.stream({ model, messages, tools });
      const message = (await stream.finalChatCompletion()).choices[0]?.message;
      if (!message?.tool_calls?.length) return { text: message?.content ?? "", inputs };
      messages.push(message);
      for (const call of message.tool_calls) {
        if (call.type === "function") inputs.push(JSON.parse(call.function.arguments));
        messages.push({ role: "tool", tool_call_id: call.id, content: toolResult });
      }
    }
  },
  status: statusField,
};

function openaiClient(system: System, options: Options): OpenAI {
  return system.openai({ apiKey: keyOf(system, options), maxRetries: options.retries ?? 0 });
}

const vercel: Adapter = {
  async whole(system, prompt, options = {}) {
    const maxRetries = options.retries ?? 0;
    const { text, usage } = await generateText({
      model: vercelModel(system, options),
      prompt,
      maxRetries,
      ...temperatureOf(options),
    });
    return answer(text, usage.inputTokens, usage.outputTokens);
  },
  async streamed(system, prompt, options = {}) {
    const left = new AbortController();
    const result = streamText({
      model: vercelModel(system, options),
      prompt,
      maxRetries: 0,
      abortSignal: left.signal,
    });
    const parts = pieces(options.leaveAfter);
    for await (const text of result.textStream) {
      if (!parts.take(text)) continue;
      left.abort();
      return answer(parts.text());
    }
    const usage = await result.usage;
    return answer(parts.text(), usage.inputTokens, usage.outputTokens);
  },
  async withTool(system, prompt, key) {
    const inputs: unknown[] = [];
    const execute = (input: unknown) => {
      inputs.push(input);
      return Promise.resolve(toolResult);
    };
    const tools = { add: tool({ description: add.description, inputSchema: jsonSchema(add.parameters), execute }) };
    const { text } = await generateText({
      model: vercelModel(system, { key }),
      prompt,
      tools,
      maxRetries: 0,
      stopWhen: stepCountIs(5),
    });
    return { text, inputs };
  },
  // An error that came after retries holds the last one.
  status: (error) => (error as { statusCode?: number }).statusCode,
};

function vercelModel(system: System, options: Options) {
  const settings = {
    name: "drawbridge",
    baseURL: `${system.url}/v1`,
    apiKey: keyOf(system, options),
    includeUsage: true,
  };
  return createOpenAICompatible(settings)(options.model ?? model);
}

const langchain: Adapter = {
  async whole(system, prompt, options = {}) {
    const { text, usage_metadata: usage } = await langchainModel(system, options).invoke(prompt);
    return answer(text, usage?.input_tokens, usage?.output_tokens);
  },
  async streamed(system, prompt, options = {}) {
    const left = new AbortController();
    const parts = pieces(options.leaveAfter);
    let read = answer("");
    for await (const { text, usage_metadata: usage } of await langchainModel(system, options).stream(prompt, {
      signal: left.signal,
    })) {
      if (usage) read = answer("", usage.input_tokens, usage.output_tokens);
      if (!parts.take(text)) continue;
      left.abort();
      break;
    }
    return { ...read, text: parts.text() };
  },
  async withTool(system, prompt, key) {
    const bound = langchainModel(system, { key }).bindTools([{ type: "function", function: add }]);
    const messages: BaseMessage[] = [new HumanMessage(prompt)];
    const inputs: unknown[] = [];
    for (;;) {
      const message = await bound.invoke(messages);
      const { tool_calls: calls = [] } = message;
      if (calls.length === 0) return { text: message.text, inputs };
      messages.push(message);
      for (const call of calls) {
        inputs.push(call.args);
        messages.push(new ToolMessage({ tool_call_id: call.id ?? "", content: toolResult }));
      }
    }
  },
  status: statusField,
};

function langchainModel(system: System, options: Options) {
  return new ChatOpenAI({
    model: options.model ?? model,
    apiKey: keyOf(system, options),
    maxRetries: options.retries ?? 0,
    streamUsage: true,
    ...temperatureOf(options),
    configuration: { baseURL: `${system.url}/v1` },
  });
}

const anthropic: Adapter = {
  async whole(system, prompt, options = {}) {
    const { content, usage } = await anthropicClient(system, options).messages.create({
      model: options.model ?? model,
      max_tokens: 1_000,
      messages: [user(prompt)],
      ...temperatureOf(options),
    });
    return answer(textOf(content), usage.input_tokens, usage.output_tokens);
  },
  async streamed(system, prompt, options = {}) {
    const stream = anthropicClient(system, options).messages.stream({
      model,
      max_tokens: 1_000,
      messages: [user(prompt)],
    });
    const parts = pieces(options.leaveAfter);
    for await (const event of stream) {
      if (event.type !== "content_block_delta" || event.delta.type !== "text_delta") continue;
      if (!parts.take(event.delta.text)) continue;
      stream.abort();
      return answer(parts.text());
    }
    const { usage } = await stream.finalMessage();
    return answer(parts.text(), usage.input_tokens, usage.output_tokens);
  },
  async withTool(system, prompt, key) {
    const tools = [{ name: add.name, description: add.description, input_schema: add.parameters }];
    const messages: Anthropic.MessageParam[] = [user(prompt)];
    const inputs: unknown[] = [];
    for (;;) {
      const stream = anthropicClient(system, { key }).messages.stream({ model, max_tokens: 1_000, messages, tools });
      const { content } = await stream.finalMessage();
      const calls = content.flatMap((block) => (block.type === "tool_use" ? [block] : []));
      if (calls.length === 0) return { text: textOf(content), inputs };
      inputs.push(...calls.map(({ input }) => input));
      const results = calls.map(({ id }) => ({ type: "tool_result" as const, tool_use_id: id, content: toolResult }));
      messages.push({ role: "assistant", content }, { role: "user", content: results });
    }
  },
  status: statusField,
};

function anthropicClient(system: System, options: Options): Anthropic {
  return new Anthropic({ baseURL: system.url, apiKey: keyOf(system, options), maxRetries: options.retries ?? 0 });
}

function textOf(content: Anthropic.ContentBlock[]): string {
  return content.map((block) => (block.type === "text" ? block.text : "")).join("");
}

function answer(text: string | null | undefined, inputTokens = 0, outputTokens = 0): Answer {
  return { text: text ?? "", inputTokens, outputTokens };
}

/** The text of a stream, piece by piece; `take` says when it is time to leave. */
function pieces(leaveAfter = Number.POSITIVE_INFINITY) {
  const texts: string[] = [];
  return {
    take(text: string | null | undefined): boolean {
      if (text) texts.push(text);
      return texts.length >= leaveAfter;
    },
    text: () => texts.join(""),
  };
}

let system: System;

beforeAll(async () => {
  system = await startSystem({
    configuration: fleet({
      accounts: [account("a-1", { slots: 6 })],
      tiers: { default: openTier, few: { ...openTier, rpm: 1 }, single: { ...openTier, concurrency: 1 } },
    }),
  });
});

afterAll(async () => {
  await system[Symbol.asyncDispose]();
});

const instruct = (instruction: Instruction) => ask(instruction)[0]?.content ?? "";
const five = instruct({ do: "answer", chunks: 5 });

/** A user of the scenario's own. */
let users = 0;
async function newUser(tier?: string) {
  users += 1;
  const id = `user-${users}`;
  const { key } = await system.admin.createUser(id, 10, tier);
  return { id, key };
}

async function refusals(): Promise<number> {
  const metrics = await (await system.request("/metrics")).text();
  return [...metrics.matchAll(/^drawbridge_requests_total\{[^}]*status="429"[^}]*\} (\d+)$/gm)].reduce(
    (total, [, count]) => total + Number(count),
    0,
  );
}

describe.each([
  ["openai", openai],
  ["Vercel AI SDK", vercel],
  ["LangChain", langchain],
  ["Anthropic", anthropic],
])("%s", (_, sdk) => {
  const failureOf = async (prompt: string, options: Options) => {
    const error: unknown = await sdk.whole(system, prompt, options).catch((reason: unknown) => reason);
    return { status: sdk.status(error), message: (error as Error).message };
  };

  it("gets a whole answer, with usage", async () => {
    const whole = await sdk.whole(system, five);
    expect(whole.text).toBe(words(5));
    expect(whole.inputTokens).toBeGreaterThan(0);
    expect(whole.outputTokens).toBeGreaterThan(0);
  });

  it("gets a streamed answer, with the same usage", async () => {
    expect(await sdk.streamed(system, five)).toEqual(await sdk.whole(system, five));
  });

  it("runs a tool and gets the answer that follows", async () => {
    const { key } = await newUser();
    const calling = instruct({ do: "call", calls: [{ name: "add", arguments: { a: 1, b: 2 } }] });
    const { text, inputs } = await sdk.withTool(system, calling, key);
    expect(inputs).toEqual([{ a: 1, b: 2 }]);
    expect(text).toContain(toolResult);
  });

  it("is told what is wrong, by the class of the error", async () => {
    const few = await newUser("few");
    await sdk.whole(system, five, { key: few.key });
    expect(await failureOf(five, { key: "sk-wrong-key-0123456789" })).toMatchObject({ status: 401 });
    expect(await failureOf(five, { model: "no-such-model" })).toMatchObject({ status: 404 });
    expect(await failureOf(five, { key: few.key })).toMatchObject({ status: 429 });
    expect(await failureOf(five, { temperature: -1 })).toMatchObject({
      status: 400,
      message: expect.stringContaining("temperature") as string,
    });
    expect(await failureOf(instruct({ do: "error" }), {})).toMatchObject({
      status: 502,
      message: expect.stringMatching(/agent failed to answer/i) as string,
    });
  });

  it("tries again by itself where it is told to", async () => {
    const { key } = await newUser("single");
    const before = await refusals();
    // Its first content is there, so its place is taken.
    const busy = await system.request("/v1/chat/completions", {
      apiKey: key,
      body: { model, stream: true, messages: [user(instruct({ do: "answer", chunks: 10, pause_ms: 100 }))] },
    });
    expect((await sdk.whole(system, five, { key, retries: 5 })).text).toBe(words(5));
    expect(await busy.text()).toContain("[DONE]");
    expect((await refusals()) - before).toBeGreaterThanOrEqual(1);
  });

  it("stops the agent when it leaves", async () => {
    const { id, key } = await newUser();
    const long = instruct({ do: "answer", chunks: 10_000, pause_ms: 20 });
    const { text } = await sdk.streamed(system, long, { key, leaveAfter: 3 }).catch(() => answer("left"));
    expect(text).not.toBe("");
    await until(
      "the request has ended as cancelled",
      async () => (await system.admin.usage(id))[0]?.end === "cancelled",
    );
    const [entry] = await system.admin.usage(id);
    expect(entry?.output_tokens).toBeLessThan(5_000);
  });
});
