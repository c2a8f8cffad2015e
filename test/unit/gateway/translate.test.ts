import { describe, expect, it } from "vitest";
import { Role, ToolChoiceMode } from "#gen/drawbridge/v1/prompt";
import { parseChatRequest } from "../../../services/gateway/openai/parse.ts";
import { promptOf } from "../../../services/gateway/openai/translate.ts";
import { countTokens } from "../../../services/kit/tokens.ts";

const limits = { outputTokensMax: 1_000 };
const translate = (fields: object) =>
  promptOf(parseChatRequest({ model: "m", messages: [{ role: "user", content: "Hello" }], ...fields }), limits);
const withMessages = (...messages: unknown[]) => translate({ messages });

describe("a chat request as a prompt", () => {
  it("keeps roles, names and the order of parts", () => {
    const { messages } = withMessages(
      { role: "system", content: "s" },
      {
        role: "developer",
        content: [
          { type: "text", text: "d1" },
          { type: "text", text: "d2" },
        ],
      },
      { role: "user", content: "u", name: "Ada" },
      { role: "assistant", content: "a" },
    );
    expect(messages.map(({ role }) => role)).toEqual([Role.SYSTEM, Role.DEVELOPER, Role.USER, Role.ASSISTANT]);
    expect(messages[1]?.parts.map(({ part }) => part.value)).toEqual(["d1", "d2"]);
    expect(messages[2]?.name).toBe("Ada");
  });

  it("keeps calls of tools and their results", () => {
    const toolCall = { id: "call_1", type: "function", function: { name: "add", arguments: '{"a":1}' } };
    const { messages } = withMessages(
      { role: "assistant", content: null, tool_calls: [toolCall] },
      { role: "tool", content: "2", tool_call_id: "call_1" },
    );
    expect(messages[0]).toMatchObject({
      parts: [],
      toolCalls: [{ id: "call_1", name: "add", argumentsJson: '{"a":1}' }],
    });
    expect(messages[1]).toMatchObject({ role: Role.TOOL, toolCallId: "call_1", parts: [{ part: { value: "2" } }] });
  });

  it("keeps refusals as what was said", () => {
    const { messages } = withMessages(
      { role: "assistant", content: [{ type: "refusal", refusal: "never" }] },
      { role: "assistant", content: null, refusal: "no" },
    );
    expect(messages.map(({ parts }) => parts[0]?.part.value)).toEqual(["never", "no"]);
  });

  it("reads images from data URLs", () => {
    const url = `data:image/png;base64,${Buffer.from([1, 2, 255]).toString("base64")}`;
    const { messages } = withMessages({ role: "user", content: [{ type: "image_url", image_url: { url } }] });
    const image = messages[0]?.parts[0]?.part;
    expect(image).toMatchObject({ case: "image", value: { mediaType: "image/png" } });
    expect(image?.case === "image" && [...image.value.data]).toEqual([1, 2, 255]);
  });

  it.each([
    "https://example.com/cat.png",
    "http://169.254.169.254/",
    "file:///etc/passwd",
    "data:text/html;base64,AAAA",
    "data:image/png;base64,",
    "data:image/png,AAAA",
  ])("takes no image by address: %s", (url) => {
    expect(() =>
      withMessages({
        role: "user",
        content: [
          { type: "text", text: "?" },
          { type: "image_url", image_url: { url } },
        ],
      }),
    ).toThrow(expect.objectContaining({ param: "messages[0].content[1].image_url.url" }));
  });

  it("bounds the output by the gateway's own limit, and leaves it open where none is asked for", () => {
    expect(translate({ max_tokens: 50 }).outputTokensMax).toBe(50n);
    expect(translate({ max_tokens: 50, max_completion_tokens: 60 }).outputTokensMax).toBe(60n);
    expect(translate({ max_completion_tokens: 5_000 }).outputTokensMax).toBe(1_000n);
    expect(translate({}).outputTokensMax).toBe(0n);
  });

  it("passes stop sequences as a list", () => {
    expect(translate({ stop: "END" }).stop).toEqual(["END"]);
    expect(translate({ stop: ["a", "b"] }).stop).toEqual(["a", "b"]);
    expect(translate({}).stop).toEqual([]);
  });

  it("counts input tokens, so that longer prompts hold more", () => {
    const short = translate({}).inputTokensEstimate;
    const long = withMessages({ role: "user", content: "Hello ".repeat(1_000) }).inputTokensEstimate;
    expect(short).toBeGreaterThanOrEqual(BigInt(countTokens("Hello")));
    expect(long).toBeGreaterThan(short + 900n);
  });
});

describe("tools", () => {
  const tools = ["add", "look.up"].map((name) => ({
    type: "function",
    function: { name, description: `does ${name}`, parameters: { type: "object" } },
  }));
  const choose = (tool_choice: unknown, fields: object = {}) => translate({ tools, tool_choice, ...fields });

  it("are told with their schemas, and counted", () => {
    const prompt = translate({ tools });
    expect(prompt.tools.map(({ name, description, parametersJson }) => [name, description, parametersJson])).toEqual([
      ["add", "does add", '{"type":"object"}'],
      ["look.up", "does look.up", '{"type":"object"}'],
    ]);
    expect(prompt.toolChoice).toMatchObject({ mode: ToolChoiceMode.AUTO, name: "", single: false });
    expect(prompt.inputTokensEstimate).toBeGreaterThan(translate({}).inputTokensEstimate);
  });

  it("may or must be called", () => {
    expect(choose("none").toolChoice?.mode).toBe(ToolChoiceMode.NONE);
    expect(choose("required").toolChoice).toMatchObject({ mode: ToolChoiceMode.REQUIRED, name: "" });
    expect(choose("auto", { parallel_tool_calls: false }).toolChoice?.single).toBe(true);
  });

  it("may be one by name, or a part of them", () => {
    const named = (name: string) => ({ type: "function", function: { name } });
    const one = choose(named("add"));
    expect(one.toolChoice).toMatchObject({ mode: ToolChoiceMode.REQUIRED, name: "add" });
    expect(one.tools.map(({ name }) => name)).toEqual(["add", "look.up"]);
    const some = choose({ type: "allowed_tools", allowed_tools: { mode: "auto", tools: [named("look.up")] } });
    expect(some.tools.map(({ name }) => name)).toEqual(["look.up"]);
    expect(some.toolChoice?.mode).toBe(ToolChoiceMode.AUTO);
  });

  it.each([
    ["a choice of none of them", { tools, tool_choice: { type: "function", function: { name: "no" } } }, "tool_choice"],
    ["a choice without any", { tool_choice: "required" }, "tool_choice"],
    ["two of one name", { tools: [tools[0], tools[0]] }, "tools[1].function"],
  ])("%s is refused by name", (_, fields, param) => {
    expect(() => translate(fields)).toThrow(expect.objectContaining({ param }));
  });

  it("are none where the list is empty", () => {
    expect(translate({ tools: [], tool_choice: "auto" })).toMatchObject({ tools: [] });
  });
});

describe("the answer's form", () => {
  it("is a JSON object, JSON by a schema, or any", () => {
    expect(translate({ response_format: { type: "text" } }).responseFormat).toBeUndefined();
    const object = translate({ response_format: { type: "json_object" } });
    expect(object.responseFormat?.format.case).toBe("jsonObject");
    const json_schema = { name: "n", description: "d", schema: { type: "object" } };
    const schema = translate({ response_format: { type: "json_schema", json_schema } });
    expect(schema.responseFormat?.format).toMatchObject({
      case: "jsonSchema",
      value: { name: "n", description: "d", schemaJson: '{"type":"object"}' },
    });
  });
});
