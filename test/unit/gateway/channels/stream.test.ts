import { describe, expect, test } from "vitest";
import { createEventParser } from "../../../../services/gateway/channels/upstream/sse.ts";
import {
  createChunkRewriter,
  createResponseRewriter,
  type StreamRewriter,
} from "../../../../services/gateway/channels/upstream/stream.ts";
import { estimatedUsage } from "../../../../services/gateway/channels/upstream/usage.ts";
import { seededRandom } from "../../../support/seeded-random.ts";

const head = { id: "c-1", object: "chat.completion.chunk", created: 1, model: "own" };
const told = { ...head, model: "public" };
const delta = (content: string) => ({ choices: [{ index: 0, delta: { content }, finish_reason: null }] });
const finish = { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] };
const usage = { prompt_tokens: 4, completion_tokens: 3, total_tokens: 7 };
const frame = (value: object) => `data: ${JSON.stringify(value)}\n\n`;
const object = "chat.completion.chunk";

/** Everything that a client gets of these bytes, cut at these places. */
function throughAll(rewriter: StreamRewriter, parts: readonly Uint8Array[]): string {
  const parser = createEventParser();
  let text = "";
  for (const part of parts) for (const event of parser.push(part)) text += rewriter.pass(event).frame;
  return text + rewriter.end(rewriter.usage ?? estimatedUsage(1, rewriter.outputTokens));
}

function cutAtRandom(bytes: Buffer, random: () => number): Buffer[] {
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 1 + Math.floor(random() * 40);
    parts.push(bytes.subarray(at, end));
    at = end;
  }
  return parts;
}

describe("chunks", () => {
  const sent = [
    ": a comment\n\n",
    frame({
      ...head,
      choices: [{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }],
      usage: null,
    }),
    "id: 7\nretry: 100\n",
    frame({ ...head, ...delta("Grüße, 漢字 🏰"), usage: null, error: null }),
    frame({ ...head, ...delta(" und\\n\n mehr"), usage: null }),
    frame({ ...head, ...finish, usage: null }),
    frame({ ...head, choices: [], usage }),
    "data: [DONE]\n\n",
  ].join("");
  const first = { ...told, choices: [{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }] };
  const chunks = [
    first,
    { ...told, ...delta("Grüße, 漢字 🏰") },
    { ...told, ...delta(" und\\n\n mehr") },
    { ...told, ...finish },
  ];

  test.each([
    ["\n", false],
    ["\n", true],
    ["\r\n", false],
    ["\r\n", true],
  ])("are the same however they are cut (line ends %j, usage asked for: %s)", (lineEnd, includeUsage) => {
    const bytes = Buffer.from(sent.replaceAll("\n", lineEnd).replaceAll(`\\n${lineEnd}`, "\\n\n"));
    const expected = includeUsage
      ? `${chunks.map((chunk) => frame({ ...chunk, usage: null })).join("")}${frame({ ...told, choices: [], usage })}data: [DONE]\n\n`
      : `${chunks.map(frame).join("")}data: [DONE]\n\n`;
    for (let seed = 1; seed <= 200; seed += 1) {
      const rewriter = createChunkRewriter({ model: "public", includeUsage, object });
      expect(throughAll(rewriter, cutAtRandom(bytes, seededRandom(seed)))).toBe(expected);
      expect(rewriter).toMatchObject({ finished: true, over: true, id: "c-1" });
      expect(rewriter.usage).toMatchObject({ inputTokens: 4n, outputTokens: 3n });
    }
  });

  test("content begins with what a client waits for, not with a role", () => {
    const rewriter = createChunkRewriter({ model: "m", includeUsage: false, object });
    const content = (choice: object) =>
      rewriter.pass({ event: "", data: JSON.stringify({ ...head, choices: [{ index: 0, ...choice }] }) }).content;
    expect(content({ delta: { role: "assistant", content: "" } })).toBe(false);
    expect(content({ delta: {} })).toBe(false);
    expect(content({ delta: { content: "x" } })).toBe(true);
    expect(content({ delta: { reasoning_content: "x" } })).toBe(true);
    expect(content({ delta: { tool_calls: [{ index: 0, id: "t", function: { name: "", arguments: "" } }] } })).toBe(
      true,
    );
    expect(content({ delta: {}, finish_reason: "stop" })).toBe(true);
    expect(content({ text: "x" })).toBe(true);
  });

  test("usage that comes with a last choice is told in a chunk of its own, an explicit zero as zero", () => {
    const rewriter = createChunkRewriter({ model: "public", includeUsage: true, object });
    const zero = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 };
    rewriter.pass({ event: "", data: JSON.stringify({ ...head, ...finish, usage: zero }) });
    expect(rewriter.usage).toMatchObject({ inputTokens: 0n, outputTokens: 0n });
    const end = rewriter.end(rewriter.usage ?? estimatedUsage(9, 9));
    expect(end).toContain('"choices":[],"usage":{"prompt_tokens":0,');
  });

  test.each([
    ["an error", { error: { message: "no" } }, "AGENT_ERROR"],
    ["no object", [1], "AGENT_PROTOCOL"],
  ])("%s is thrown", (_name, value, reason) => {
    const rewriter = createChunkRewriter({ model: "m", includeUsage: false, object });
    expect(() => rewriter.pass({ event: "", data: JSON.stringify(value) })).toThrow(
      expect.objectContaining({ reason }),
    );
  });
});

test("the output of a long answer is estimated in bounded time", () => {
  const rewriter = createChunkRewriter({ model: "m", includeUsage: false, object });
  const content = "word ".repeat(1_000);
  const event = { event: "", data: JSON.stringify({ ...head, ...delta(content) }) };
  for (let index = 0; index < 1_000; index += 1) rewriter.pass(event);
  expect(rewriter.outputTokens / 1_000_000).toBeCloseTo(1, 1);
});

describe("response events", () => {
  const pass = (rewriter: StreamRewriter, event: object) => rewriter.pass({ event: "", data: JSON.stringify(event) });

  test("keep their names, and the last one waits for the end", () => {
    const rewriter = createResponseRewriter({ model: "public", includeUsage: false, object });
    const response = { id: "r-1", model: "own", usage: null };
    expect(pass(rewriter, { type: "response.created", response })).toEqual({
      frame: `event: response.created\n${frame({ type: "response.created", response: { ...response, model: "public" } })}`,
      content: false,
    });
    expect(pass(rewriter, { type: "response.output_text.delta", delta: "hi" }).content).toBe(true);
    const done = {
      id: "r-1",
      model: "own",
      usage: { input_tokens: 5, output_tokens: 2, output_tokens_details: { reasoning_tokens: 1 } },
    };
    expect(pass(rewriter, { type: "response.completed", response: done }).frame).toBe("");
    expect(rewriter).toMatchObject({ finished: true, over: true, id: "r-1" });
    expect(rewriter.usage).toMatchObject({ inputTokens: 5n, outputTokens: 2n, reasoningTokens: 1n });
    expect(rewriter.end(estimatedUsage(0, 0))).toBe(
      `event: response.completed\n${frame({ type: "response.completed", response: { ...done, model: "public" } })}`,
    );
  });

  test("a failed response is a failure", () => {
    const rewriter = createResponseRewriter({ model: "m", includeUsage: false, object });
    const failed = { type: "response.failed", response: { error: { code: "server_error", message: "no" } } };
    expect(() => pass(rewriter, failed)).toThrow(expect.objectContaining({ reason: "AGENT_ERROR" }));
  });
});

test("an event without an end is not held for ever", () => {
  const parser = createEventParser();
  const part = Buffer.alloc(1 << 20, "x");
  const pushMuch = () => {
    for (let index = 0; index < 16; index += 1) parser.push(part);
  };
  expect(pushMuch).toThrow("too long");
});
