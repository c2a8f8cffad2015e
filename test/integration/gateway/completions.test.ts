// POST /v1/completions, as the official SDK and as bytes.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { expectApiError } from "../../support/api-error.ts";
import { all } from "../../support/event-stream.ts";
import { batch, finished, type GatewayUnderTest, model, says, startGatewayUnderTest, text } from "./harness.ts";

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

const path = "/v1/completions";
const asked = { model, prompt: "Say hello" };

describe("a completion", () => {
  it("is what the SDK expects", async () => {
    const answer = await gateway.openai().completions.create({ ...asked, max_tokens: 7, stop: "END" });
    expect(answer).toMatchObject({
      object: "text_completion",
      model,
      choices: [{ text: "Hello", index: 0, logprobs: null, finish_reason: "stop" }],
      usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 },
    });
    expect(answer.id).toMatch(/^cmpl-/);
    expect(gateway.engine.prompts.at(-1)).toMatchObject({ outputTokensMax: 7n, stop: ["END"] });
  });

  it("takes a list of one prompt", async () => {
    await gateway.openai().completions.create({ ...asked, prompt: ["Say hello"] });
    expect(gateway.engine.prompts.at(-1)?.messages[0]?.parts[0]?.part.value).toBe("Say hello");
  });

  it("is streamed, without reasoning", async () => {
    gateway.engine.script = async function* thinks({ request }) {
      yield batch([{ event: { case: "reasoning", value: { text: "hm" } } }]);
      yield text("Hel");
      yield text("lo");
      yield finished(request);
    };
    const stream = await gateway
      .openai()
      .completions.create({ ...asked, stream: true, stream_options: { include_usage: true } });
    const chunks = await all(stream);
    expect(chunks.map(({ choices }) => choices[0]?.text ?? null)).toEqual(["Hel", "lo", "", null]);
    expect(chunks.at(-2)).toMatchObject({ choices: [{ finish_reason: "stop" }], usage: null });
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { total_tokens: 15 } });
    const bytes = await (await gateway.request(path, { body: { ...asked, stream: true } })).text();
    expect(bytes).toMatch(/data: \[DONE\]\n\n$/);
    expect(bytes).not.toContain("usage");
  });

  it.each([
    ["n", 2, "unsupported_parameter"],
    ["best_of", 2, "unsupported_parameter"],
    ["echo", true, "unsupported_parameter"],
    ["logprobs", 3, "unsupported_parameter"],
    ["suffix", "end", "unsupported_parameter"],
    ["prompt", ["a", "b"], "invalid_value"],
    ["prompt", [1, 2], "invalid_value"],
    ["messages", [], "unknown_parameter"],
  ])("refuses %s %j by name", async (param, value, code) => {
    const response = await gateway.request(path, { body: { ...asked, [param]: value } });
    await expectApiError(response, { status: 400, type: "invalid_request_error", param, code });
  });

  it("names what has no effect", async () => {
    const response = await gateway.request(path, { body: { ...asked, temperature: 1, user: "u" } });
    expect(response.headers.get("x-drawbridge-ignored-parameters")).toBe("temperature, user");
  });
});
