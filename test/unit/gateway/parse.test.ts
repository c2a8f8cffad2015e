import { describe, expect, it } from "vitest";
import { parseChatRequest, type ParameterError } from "../../../services/gateway/openai/parse.ts";
import { ignoredParameters } from "../../../services/gateway/openai/schema.ts";

const user = { role: "user", content: "Hello" };
const request = (fields: object = {}) => ({ model: "m", messages: [user], ...fields });
const messages = (...list: unknown[]) => request({ messages: list });

function refusal(body: unknown): ParameterError {
  try {
    parseChatRequest(body);
  } catch (error) {
    return error as ParameterError;
  }
  throw new Error("The request was taken.");
}

const tool = { type: "function", function: { name: "f", parameters: {} } };
const call = { id: "call_1", type: "function", function: { name: "f", arguments: "{}" } };

describe("a request that is taken", () => {
  it.each([
    ["the least", request()],
    [
      "every role",
      messages(
        { role: "system", content: "s" },
        { role: "developer", content: [{ type: "text", text: "d" }] },
        {
          role: "user",
          content: [
            { type: "text", text: "u" },
            { type: "image_url", image_url: { url: "data:image/png;base64,AA==" } },
          ],
          name: "Ada",
        },
        { role: "assistant", content: null, tool_calls: [call] },
        { role: "tool", content: "42", tool_call_id: "call_1" },
        { role: "assistant", content: [{ type: "refusal", refusal: "no" }] },
        { role: "assistant", content: null, refusal: "no" },
      ),
    ],
    [
      "an answer of ours, sent back",
      messages(user, { role: "assistant", content: "hi", refusal: null, reasoning_content: "hm" }),
    ],
    ["a limit", request({ max_tokens: 5, max_completion_tokens: null })],
    ["a stop sequence", request({ stop: "END" })],
    ["four stop sequences", request({ stop: ["a", "b", "c", "d"] })],
    ["one choice", request({ n: 1 })],
    ["no tools, said aloud", request({ tools: [], tool_choice: "auto", functions: [], function_call: "none" })],
    ["tools", request({ tools: [tool], tool_choice: "required", parallel_tool_calls: false })],
    ["one tool, by name", request({ tools: [tool], tool_choice: { type: "function", function: { name: "f" } } })],
    [
      "some of the tools",
      request({
        tools: [tool],
        tool_choice: {
          type: "allowed_tools",
          allowed_tools: { mode: "auto", tools: [{ type: "function", function: { name: "f" } }] },
        },
      }),
    ],
    ["any JSON object", request({ response_format: { type: "json_object" } })],
    [
      "JSON by a schema",
      request({ response_format: { type: "json_schema", json_schema: { name: "n", schema: {}, strict: true } } }),
    ],
    ["text, said aloud", request({ response_format: { type: "text" }, modalities: ["text"] })],
    ["no log probabilities, said aloud", request({ logprobs: false, top_logprobs: 0 })],
    [
      "nulls",
      request({
        n: null,
        stop: null,
        stream: null,
        tools: null,
        response_format: null,
        audio: null,
        temperature: null,
      }),
    ],
    [
      "history as SDKs dump it, with null for what is absent and names beside results",
      messages(
        { ...user, name: null },
        {
          role: "assistant",
          content: "hi",
          refusal: null,
          annotations: null,
          audio: null,
          function_call: null,
          tool_calls: null,
        },
        { role: "assistant", content: null, tool_calls: [{ ...call, index: 0 }] },
        { role: "tool", name: "f", content: "42", tool_call_id: "call_1" },
      ),
    ],
    ["options of a stream that say nothing", request({ stream: true, stream_options: { include_usage: null } })],
    ["a stream with usage", request({ stream: true, stream_options: { include_usage: true } })],
  ])("%s", (_, body) => {
    expect(parseChatRequest(body).model).toBe("m");
  });
});

describe("hints to a sampler", () => {
  const inRange = {
    temperature: 2,
    top_p: 1,
    presence_penalty: -2,
    frequency_penalty: 2,
    logit_bias: { "50256": -100 },
    seed: 2 ** 60,
    user: "u",
    safety_identifier: "s",
    prompt_cache_key: "p",
    prompt_cache_retention: "24h",
    prompt_cache_options: { mode: "explicit", ttl: "30m" },
    metadata: { a: "b" },
    store: true,
    service_tier: "auto",
    reasoning_effort: "high",
    verbosity: "low",
    parallel_tool_calls: true,
  };

  it("are taken and named, so that nobody believes in an effect", () => {
    expect(ignoredParameters(parseChatRequest(request(inRange)))).toEqual(Object.keys(inRange));
  });

  it("are named also where they are zero or false", () => {
    const ignored = ignoredParameters(parseChatRequest(request({ temperature: 0, store: false, top_p: null })));
    expect(ignored).toEqual(["temperature", "store"]);
  });

  it("are not named where they were not given", () => {
    expect(ignoredParameters(parseChatRequest(request({ max_tokens: 1, stop: "x" })))).toEqual([]);
  });

  it("are named where tools say them", () => {
    const strict = { type: "function", function: { name: "f", strict: true } };
    expect(ignoredParameters(parseChatRequest(request({ tools: [strict], parallel_tool_calls: false })))).toEqual([
      "tools.function.strict",
    ]);
  });

  it("are named where they mark what a provider may cache", () => {
    const cache_control = { type: "ephemeral" };
    const marked = request({
      messages: [{ role: "user", content: [{ type: "text", text: "Hi", cache_control }] }],
      tools: [{ ...tool, cache_control }],
    });
    expect(ignoredParameters(parseChatRequest(marked))).toEqual([
      "tools.cache_control",
      "messages.content.cache_control",
    ]);
  });

  it("are named inside other fields too", () => {
    const image = { type: "image_url", image_url: { url: "data:image/png;base64,AA==", detail: "low" } };
    const body = {
      ...messages({ role: "user", content: [image] }),
      stream: true,
      stream_options: { include_obfuscation: true },
    };
    expect(ignoredParameters(parseChatRequest(body))).toEqual([
      "stream_options.include_obfuscation",
      "messages.content.image_url.detail",
    ]);
  });

  it.each([
    ["temperature", 2.1],
    ["temperature", "hot"],
    ["top_p", 1.1],
    ["presence_penalty", -2.1],
    ["frequency_penalty", 3],
    ["logit_bias.50256", 101],
    ["seed", 1.5],
    ["service_tier", "gold"],
    ["reasoning_effort", "some"],
    ["verbosity", "chatty"],
    ["safety_identifier", "x".repeat(129)],
  ])("are checked: %s %s", (param, value) => {
    const [field = "", inner] = param.split(".");
    const error = refusal(request({ [field]: inner ? { [inner]: value } : value }));
    expect(error).toMatchObject({ reason: "INVALID_ARGUMENT", param, code: "invalid_value" });
  });

  it("keep metadata to sixteen pairs", () => {
    const metadata = Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`k${index}`, "v"]));
    expect(refusal(request({ metadata }))).toMatchObject({ param: "metadata", code: "invalid_value" });
  });
});

describe("what would change the answer's form", () => {
  it.each([
    ["n", 2],
    ["functions", [{ name: "f" }]],
    ["function_call", { name: "f" }],
    ["logprobs", true],
    ["top_logprobs", 3],
    ["modalities", ["text", "audio"]],
    ["audio", { voice: "alloy", format: "wav" }],
    ["prediction", { type: "content", content: "x" }],
    ["web_search_options", {}],
    ["moderation", {}],
  ])("%s %j is refused by name", (field, value) => {
    const error = refusal(request({ [field]: value }));
    expect(error).toMatchObject({ reason: "INVALID_ARGUMENT", param: field, code: "unsupported_parameter" });
    expect(error.message).not.toMatch(/^Invalid/);
  });
});

describe("a request that is malformed", () => {
  it.each([
    ["no object", [], undefined, undefined],
    ["null", null, undefined, undefined],
    ["no model", { messages: [user] }, "model", "missing_required_parameter"],
    ["an empty model", request({ model: "" }), "model", "invalid_value"],
    ["no messages", { model: "m" }, "messages", "missing_required_parameter"],
    ["an empty list of messages", request({ messages: [] }), "messages", "invalid_value"],
    ["a message without a role", messages({ content: "x" }), "messages[0].role", "missing_required_parameter"],
    ["an unknown role", messages(user, { role: "king", content: "x" }), "messages[1].role", "invalid_value"],
    ["a message without content", messages({ role: "user" }), "messages[0].content", "missing_required_parameter"],
    [
      "an assistant message that says nothing",
      messages({ role: "assistant" }),
      "messages[0].content",
      "missing_required_parameter",
    ],
    [
      "a tool message without its call",
      messages({ role: "tool", content: "x" }),
      "messages[0].tool_call_id",
      "missing_required_parameter",
    ],
    [
      "an unknown kind of part",
      messages({ role: "user", content: [{ type: "input_audio" }] }),
      "messages[0].content[0].type",
      "invalid_value",
    ],
    [
      "a part of the wrong type",
      messages({ role: "user", content: [{ type: "text", text: 4 }] }),
      "messages[0].content[0].text",
      "invalid_value",
    ],
    ["no parts", messages({ role: "user", content: [] }), "messages[0].content", "invalid_value"],
    [
      "an image that is spoken by the assistant",
      messages({ role: "assistant", content: [{ type: "image_url", image_url: { url: "x" } }] }),
      "messages[0].content[0].type",
      "invalid_value",
    ],
    ["five stop sequences", request({ stop: ["a", "b", "c", "d", "e"] }), "stop", "invalid_value"],
    ["a limit of zero", request({ max_tokens: 0 }), "max_tokens", "invalid_value"],
    ["half a token", request({ max_completion_tokens: 1.5 }), "max_completion_tokens", "invalid_value"],
    ["a stream that is no boolean", request({ stream: "yes" }), "stream", "invalid_value"],
    [
      "stream options without a stream",
      request({ stream_options: { include_usage: true } }),
      "stream_options",
      undefined,
    ],
    ["an unknown field", request({ unheard_of: 1 }), "unheard_of", "unknown_parameter"],
    ["an unknown field with the name of a built-in", request({ constructor: 1 }), "constructor", "unknown_parameter"],
    ["an unknown field of a message", messages({ ...user, mood: "good" }), "messages[0].mood", "unknown_parameter"],
  ])("%s", (_, body, param, code) => {
    expect(refusal(body)).toMatchObject({ reason: "INVALID_ARGUMENT", param, code });
  });

  it("says what was expected", () => {
    expect(refusal(request({ unheard_of: 1 })).message).toBe("Unknown parameter: 'unheard_of'.");
    expect(refusal(messages({ role: "king", content: "x" })).message).toContain("'user'");
    expect(refusal({ messages: [user] }).message).toBe("Missing required parameter: 'model'.");
    expect(refusal(request({ stop: ["a", "b", "c", "d", "e"] })).message).toContain("4");
  });
});
