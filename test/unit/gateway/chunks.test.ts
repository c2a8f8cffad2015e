import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { StopReason } from "#gen/drawbridge/v1/prompt";
import { UsageSchema } from "#gen/drawbridge/v1/usage";
import { createChunkFrames, doneFrame, keepAliveFrame } from "../../../services/gateway/openai/chunks.ts";
import { completionBody, finishReason, usageBody } from "../../../services/gateway/openai/completion.ts";

const identity = { id: "chatcmpl-1", created: 1_700_000_000, model: 'odd "model"/1' };
const head = '"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"odd \\"model\\"/1"';
const usage = create(UsageSchema, { inputTokens: 12n, cachedInputTokens: 4n, outputTokens: 7n, reasoningTokens: 2n });

describe("frames without usage", () => {
  const frames = createChunkFrames(identity, false);

  it("are these bytes", () => {
    const chunk = (choice: string) => `data: {${head},"choices":[{"index":0,${choice}}]}\n\n`;
    expect(frames.first).toBe(chunk('"delta":{"role":"assistant","content":""},"finish_reason":null'));
    expect(frames.text("Hi")).toBe(chunk('"delta":{"content":"Hi"},"finish_reason":null'));
    expect(frames.reasoning("hm")).toBe(chunk('"delta":{"reasoning_content":"hm"},"finish_reason":null'));
    expect(frames.finish("stop")).toBe(chunk('"delta":{},"finish_reason":"stop"'));
    expect(doneFrame).toBe("data: [DONE]\n\n");
    expect(keepAliveFrame).toBe(": ping\n\n");
  });

  it("stay one line, whatever the text", () => {
    for (const text of ['"', "\n\n", "\r\ndata: x", "\u2028\u2029", "😀", "\ud83d", "</script>", "\0"]) {
      const frame = frames.text(text);
      expect(frame.slice(0, -2)).not.toMatch(/[\n\r]/);
      expect(frame.endsWith("\n\n")).toBe(true);
      const chunk = JSON.parse(frame.slice("data: ".length)) as { choices: { delta: { content: string } }[] };
      expect(chunk.choices[0]?.delta.content).toBe(text);
    }
  });

  it("name a tool call once", () => {
    const delta = (frame: string) =>
      (JSON.parse(frame.slice(6)) as { choices: { delta: unknown }[] }).choices[0]?.delta;
    expect(delta(frames.toolCall({ index: 1, id: "call_1", name: "add", argumentsJson: "" }))).toEqual({
      tool_calls: [{ index: 1, id: "call_1", type: "function", function: { name: "add", arguments: "" } }],
    });
    expect(delta(frames.toolCall({ index: 1, id: "", name: "", argumentsJson: '{"a"' }))).toEqual({
      tool_calls: [{ index: 1, function: { arguments: '{"a"' } }],
    });
  });
});

describe("frames with usage", () => {
  const frames = createChunkFrames(identity, true);

  it("have it as null, and then by itself", () => {
    for (const frame of [frames.first, frames.text("x"), frames.reasoning("x"), frames.finish("length")]) {
      expect(frame).toMatch(/\}\],"usage":null\}\n\n$/);
      expect(JSON.parse(frame.slice(6))).toHaveProperty("usage", null);
    }
    expect(frames.usage(usage)).toBe(
      `data: {${head},"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":7,"total_tokens":19,` +
        `"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}\n\n`,
    );
  });
});

describe("the whole answer", () => {
  const content = { text: "Hi", reasoning: "", toolCalls: [], finish: "stop" as const, usage };

  it("has OpenAI's form", () => {
    expect(completionBody(identity, content)).toEqual({
      ...identity,
      object: "chat.completion",
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: "Hi", refusal: null },
          logprobs: null,
          finish_reason: "stop",
        },
      ],
      usage: usageBody(usage),
    });
  });

  it("has reasoning and tool calls where there are some", () => {
    const toolCalls = [{ id: "call_1", name: "add", argumentsJson: '{"a":1}' }];
    const { choices } = completionBody(identity, { ...content, text: "", reasoning: "hm", toolCalls });
    expect(choices[0]?.message).toEqual({
      role: "assistant",
      content: null,
      refusal: null,
      reasoning_content: "hm",
      tool_calls: [{ id: "call_1", type: "function", function: { name: "add", arguments: '{"a":1}' } }],
    });
  });

  it("says zero where nothing was counted", () => {
    expect(usageBody(undefined)).toMatchObject({ prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 });
  });
});

it.each([
  [StopReason.END_TURN, "stop"],
  [StopReason.STOP_SEQUENCE, "stop"],
  [StopReason.MAX_TOKENS, "length"],
  [StopReason.TOOL_CALLS, "tool_calls"],
  [StopReason.REFUSAL, "content_filter"],
  [99 as StopReason, "stop"],
])("stop reason %s is %s", (reason, expected) => {
  expect(finishReason(reason)).toBe(expected);
});
