// Answers that have to have a form.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { StopReason } from "#gen/drawbridge/v1/prompt";
import { End } from "#gen/drawbridge/v1/usage";
import { instruct } from "../../support/messages.ts";
import { type Answer, startWorker, type WorkerUnderTest } from "./harness.ts";

let worker: WorkerUnderTest;

beforeEach(async () => {
  worker = await startWorker();
  await worker.ready();
});
afterEach(() => worker[Symbol.asyncDispose]());

const anyObject = { format: { case: "jsonObject", value: {} } };
const schema = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const withSchema = (json: unknown) => ({
  format: { case: "jsonSchema", value: { name: "place", description: "", schemaJson: JSON.stringify(json) } },
});

/** The agent says `text`, in one piece; where it is told to correct itself it finds no instruction and says "ok", or what `then` says. */
function ask(text: string, responseFormat: object, fields: object = {}): Promise<Answer> {
  const instruction = { do: "answer", chunks: 1, text };
  return worker.prompt(instruction, {
    prompt: { messages: [instruct(instruction)], responseFormat, ...fields } as never,
  });
}

describe("a JSON object", () => {
  it.each([
    ["bare", '{"a": 1}', '{"a": 1}'],
    ["in a fence", '```json\n{"a": 1}\n```\n', '{"a": 1}'],
    ["between blank lines", '\n\n{"a": 1}\n', '{"a": 1}'],
  ])("%s passes", async (_, text, expected) => {
    const answer = await ask(text, anyObject);
    expect(answer.text).toBe(expected);
    expect(answer.stopReason).toBe(StopReason.END_TURN);
  });

  it.each([
    ["words", "no JSON"],
    ["a list", "[1]"],
  ])("is no %s: after one correction that is a failure, and nothing of it went out", async (_, text) => {
    const answer = await ask(text, anyObject);
    expect(answer.error?.reason).toBe("AGENT_ERROR");
    expect(answer.text).toBe("");
    expect(answer.outcome?.end).toBe(End.FAILED_BEFORE_CONTENT);
  });

  it("comes after a correction in the same session", async () => {
    const instruction = { do: "answer", chunks: 1, text: "sorry", corrected: '{"a":2}' };
    const answer = await worker.prompt(instruction, {
      prompt: { messages: [instruct(instruction)], responseFormat: anyObject, conversationScope: "alice" } as never,
    });
    expect(answer.text).toBe('{"a":2}');
    // The session heard more than the client knows of.
    expect(answer.outcome?.conversation).toBe("");
  });

  it("that was cut short goes out as it is", async () => {
    const answer = await ask('{"a": "one two three four five"}', anyObject, { outputTokensMax: 3n });
    expect(answer.stopReason).toBe(StopReason.MAX_TOKENS);
    expect(answer.text.startsWith('{"a')).toBe(true);
  });
});

describe("JSON of a schema", () => {
  it("passes when it follows it", async () => {
    expect((await ask('{"city":"Oslo"}', withSchema(schema))).text).toBe('{"city":"Oslo"}');
  });

  it.each(['{"city":1}', '{"town":"Oslo"}', '{"city":"Oslo","more":1}'])("%s does not pass", async (text) => {
    const answer = await ask(text, withSchema(schema));
    expect(answer.error?.reason).toBe("AGENT_ERROR");
    expect(answer.error?.message).toContain("form");
  });

  it("is asked for in the prompt", async () => {
    const { error } = await worker.prompt({ do: "echo" }, { prompt: { responseFormat: withSchema(schema) } as never });
    expect(error?.message).toContain("form");
  });

  it("that is no schema is refused", async () => {
    for (const json of [{ type: "thing" }, { $ref: "#/$defs/none" }, 7]) {
      const { error } = await ask("{}", withSchema(json));
      expect(error?.reason).toBe("INVALID_ARGUMENT");
      expect(error?.message).toContain("response_format");
    }
    expect((await worker.prompt({ do: "answer" })).error).toBeUndefined();
  });

  it("that takes for ever to match costs two seconds of a thread, not the worker", async () => {
    const evil = { type: "object", properties: { a: { type: "string", pattern: "^(a+)+$" } } };
    const slow = ask(`{"a":"${"a".repeat(40)}!"}`, withSchema(evil));
    expect((await worker.calls.listSlots({})).pools).toHaveLength(1);
    expect((await slow).error?.reason).toBe("AGENT_ERROR");
    expect((await ask('{"city":"Oslo"}', withSchema(schema))).text).toBe('{"city":"Oslo"}');
  });
});
