// POST /v1/responses and what belongs to it, as the official SDK and as bytes.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Role, StopReason } from "#gen/drawbridge/v1/prompt";
import { expectApiError } from "../../support/api-error.ts";
import {
  batch,
  failure,
  finished,
  type GatewayUnderTest,
  givenUser,
  model,
  type Script,
  says,
  started,
  startGatewayUnderTest,
  text,
} from "./harness.ts";

let gateway: GatewayUnderTest;

beforeAll(async () => {
  gateway = await startGatewayUnderTest();
});

beforeEach(() => {
  gateway.engine.script = says("Hel", "lo");
});

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

const path = "/v1/responses";
const asked = { model, input: "Hello?" };
const tools = [{ type: "function" as const, name: "add", parameters: { type: "object" }, strict: null }];

/** Thinks, says something, and calls a tool. */
const callsTool: Script = async function* answer({ request }) {
  yield started();
  yield batch([{ event: { case: "reasoning", value: { text: "hm" } } }]);
  yield text("I add.");
  yield batch([{ event: { case: "toolCall", value: { index: 0, id: "c1", name: "add", argumentsJson: '{"a":' } } }]);
  yield batch([{ event: { case: "toolCall", value: { index: 0, argumentsJson: "1}" } } }]);
  yield finished(request, StopReason.TOOL_CALLS);
};

const output = [
  { type: "reasoning", summary: [{ type: "summary_text", text: "hm" }] },
  { type: "message", status: "completed", content: [{ type: "output_text", text: "I add." }] },
  { type: "function_call", call_id: "c1", name: "add", arguments: '{"a":1}', status: "completed" },
];

describe("a response", () => {
  it("is what the SDK expects", async () => {
    const answer = await gateway
      .openai()
      .responses.create({ ...asked, instructions: "Be short.", metadata: { a: "b" } });
    expect(answer).toMatchObject({
      object: "response",
      status: "completed",
      output_text: "Hello",
      error: null,
      instructions: "Be short.",
      metadata: { a: "b" },
      usage: { input_tokens: 10, output_tokens: 5, total_tokens: 15 },
    });
    const messages = gateway.engine.prompts.at(-1)?.messages;
    expect(messages?.map(({ role }) => role)).toEqual([Role.SYSTEM, Role.USER]);
  });

  it("may be reasoning, text and calls of tools", async () => {
    gateway.engine.script = callsTool;
    const answer = await gateway.openai().responses.create({ ...asked, tools });
    expect(answer.output).toMatchObject(output);
  });

  it("says that it is incomplete", async () => {
    gateway.engine.script = async function* limited({ request }) {
      yield text("Hel");
      yield finished(request, StopReason.MAX_TOKENS);
    };
    const answer = await gateway.openai().responses.create({ ...asked, max_output_tokens: 3 });
    expect(answer).toMatchObject({ status: "incomplete", incomplete_details: { reason: "max_output_tokens" } });
  });
});

describe("a streamed response", () => {
  it("is put together by the SDK", async () => {
    gateway.engine.script = callsTool;
    const stream = gateway.openai().responses.stream({ ...asked, tools });
    const types: string[] = [];
    let next = 0;
    for await (const event of stream) {
      types.push(event.type.replace("response.", ""));
      expect(event.sequence_number).toBe(next);
      next += 1;
    }
    expect(types).toEqual([
      "created",
      "in_progress",
      "output_item.added",
      "reasoning_summary_part.added",
      "reasoning_summary_text.delta",
      "reasoning_summary_text.done",
      "reasoning_summary_part.done",
      "output_item.done",
      "output_item.added",
      "content_part.added",
      "output_text.delta",
      "output_text.done",
      "content_part.done",
      "output_item.done",
      "output_item.added",
      "function_call_arguments.delta",
      "function_call_arguments.delta",
      "function_call_arguments.done",
      "output_item.done",
      "completed",
    ]);
    expect((await stream.finalResponse()).output).toMatchObject(output);
  });

  it("has no [DONE]", async () => {
    const bytes = await (await gateway.request(path, { body: { ...asked, stream: true } })).text();
    expect(bytes).not.toContain("[DONE]");
    expect(bytes.trimEnd().split("\n").at(-2)).toBe("event: response.completed");
  });

  it("that fails after content says so", async () => {
    gateway.engine.script = async function* breaks({ request }) {
      yield text("Hel");
      throw failure(request, "AGENT_CRASHED", { content: true, usage: true });
    };
    const stream = await gateway.openai().responses.create({ ...asked, stream: true });
    const types: string[] = [];
    await expect(
      (async () => {
        for await (const event of stream) types.push(event.type);
      })(),
    ).rejects.toMatchObject({ code: "upstream_error" });
    expect(types.at(-1)).toBe("response.failed");
  });
});

describe("a conversation", () => {
  it("is continued from a stored response, by its user only", async () => {
    gateway.engine.script = callsTool;
    const first = await gateway.openai().responses.create({ ...asked, tools });
    gateway.engine.script = says("2");
    const next = {
      model,
      previous_response_id: first.id,
      input: [{ type: "function_call_output" as const, call_id: "c1", output: "2" }],
    };
    await gateway.openai().responses.create(next);
    const messages = gateway.engine.prompts.at(-1)?.messages ?? [];
    expect(messages.map(({ role }) => role)).toEqual([Role.USER, Role.ASSISTANT, Role.TOOL]);
    expect(messages[1]?.toolCalls).toMatchObject([{ id: "c1", name: "add", argumentsJson: '{"a":1}' }]);
    expect(await gateway.openai().responses.retrieve(first.id)).toMatchObject({ id: first.id, output });
    const apiKey = await givenUser(gateway, "stranger");
    await expect(gateway.openai({ apiKey }).responses.create(next)).rejects.toMatchObject({
      status: 400,
      code: "previous_response_not_found",
      param: "previous_response_id",
    });
    await expect(gateway.openai({ apiKey }).responses.retrieve(first.id)).rejects.toMatchObject({ status: 404 });
  });

  it("is the same sent as items", async () => {
    await gateway.openai().responses.create({
      model,
      input: [
        { role: "user", content: [{ type: "input_text", text: "1+1?" }] },
        { type: "message", role: "assistant", content: "I add." },
        { type: "function_call", call_id: "c1", name: "add", arguments: "{}" },
        { type: "function_call_output", call_id: "c1", output: "2" },
      ],
    });
    const messages = gateway.engine.prompts.at(-1)?.messages ?? [];
    expect(messages.map(({ role }) => role)).toEqual([Role.USER, Role.ASSISTANT, Role.TOOL]);
    expect(messages[1]).toMatchObject({ parts: [{ part: { value: "I add." } }], toolCalls: [{ id: "c1" }] });
  });

  it("is not stored where the client says so, or deletes it", async () => {
    const kept = await gateway.openai().responses.create(asked);
    await gateway.openai().responses.delete(kept.id);
    const never = await gateway.openai().responses.create({ ...asked, store: false });
    for (const { id } of [kept, never]) {
      await expect(gateway.openai().responses.retrieve(id)).rejects.toMatchObject({ status: 404 });
    }
  });
});

describe("what cannot be honoured", () => {
  it.each([
    ["background", true, "unsupported_parameter"],
    ["conversation", "c", "unsupported_parameter"],
    ["prompt", { id: "p" }, "unsupported_parameter"],
    ["messages", [], "unknown_parameter"],
  ])("%s is refused by name", async (param, value, code) => {
    const response = await gateway.request(path, { body: { ...asked, [param]: value } });
    await expectApiError(response, { status: 400, type: "invalid_request_error", param, code });
  });

  it("a tool that is no function is refused by name", async () => {
    const response = await gateway.request(path, { body: { ...asked, tools: [{ type: "web_search" }] } });
    await expectApiError(response, {
      status: 400,
      type: "invalid_request_error",
      param: "tools[0].type",
      code: "invalid_value",
    });
  });
});
