import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { PromptSchema, Role, ToolChoiceMode } from "#gen/drawbridge/v1/prompt";
import { continuedConversation, followAnswer, newMessages } from "../../../services/kit/conversation-key.ts";

type Part = {
  part: { case: "text"; value: string } | { case: "image"; value: { mediaType: string; data: Uint8Array } };
};

interface MessageShape {
  readonly role: Role;
  readonly parts: Part[];
  readonly name?: string;
  readonly toolCallId?: string;
  readonly toolCalls?: { id: string; name: string; argumentsJson: string }[];
}

const say = (role: Role, ...texts: string[]): MessageShape => ({
  role,
  parts: texts.map((value) => ({ part: { case: "text", value } })),
});
const image = (mediaType: string, ...data: number[]): Part => ({
  part: { case: "image", value: { mediaType, data: new Uint8Array(data) } },
});
const system = say(Role.SYSTEM, "Be brief.");
const question = say(Role.USER, "What is two and two?");
const answer = say(Role.ASSISTANT, "Four.");
const next = say(Role.USER, "And three and three?");
const tool = { name: "get_weather", description: "Tells it.", parametersJson: '{"type":"object"}' };
const call = { id: "call_1", name: "get_weather", argumentsJson: '{"city": "Oslo"}' };

function prompt(messages: MessageShape[], fields: object = {}) {
  return create(PromptSchema, { model: "m", conversationScope: "user-1", messages, ...fields });
}

const keyOf = (messages: MessageShape[], fields: object = {}) => continuedConversation(prompt(messages, fields));

/** The key under which a worker keeps the answer. */
function keptKey(messages: MessageShape[], pieces: string[], calls: (typeof call)[] = [], fields: object = {}) {
  const follower = followAnswer(prompt(messages, fields));
  for (const piece of pieces) follower?.text(piece);
  for (const each of calls) follower?.toolCall(each);
  return follower?.key();
}

const base = keyOf([system, question, answer, next]);

test("the key of what a request continues is the key of what the answer left", () => {
  expect(base).toMatch(/^[0-9a-f]{64}$/);
  expect(keptKey([system, question], ["Fo", "ur", "."])).toBe(base);
});

test("whatever is new does not change it", () => {
  expect(keyOf([system, question, answer, say(Role.USER, "Something else.")])).toBe(base);
  expect(keyOf([system, question, answer, next, say(Role.USER, "Please.")])).toBe(base);
  expect(newMessages(prompt([system, question, answer, next]).messages)).toHaveLength(1);
});

test("a request without a scope, an earlier answer or anything new continues nothing", () => {
  expect(keyOf([system, question, answer, next], { conversationScope: "" })).toBe("");
  expect(followAnswer(prompt([question], { conversationScope: "" }))).toBeUndefined();
  expect(keyOf([system, question])).toBe("");
  expect(keyOf([system, question, answer])).toBe("");
});

describe("what clients do to an answer that they send back does not count", () => {
  test.each([
    ["white space around it", say(Role.ASSISTANT, "  Four.\n")],
    ["its cut into parts", say(Role.ASSISTANT, "Fo", "ur.")],
    ["a name for the assistant", { ...answer, name: "helper" }],
  ])("%s", (_, changed) => {
    expect(keyOf([system, question, changed, next])).toBe(base);
  });

  test("white space in the agent's pieces", () => {
    expect(keptKey([system, question], ["\n", " F", "our", ".", " ", "\n"])).toBe(base);
    const spaced = say(Role.ASSISTANT, "a \n b");
    expect(keptKey([question], ["a", " ", "\n", " b "])).toBe(keyOf([question, spaced, next]));
  });

  test("developer in place of system", () => {
    expect(keyOf([say(Role.DEVELOPER, "Be brief."), question, answer, next])).toBe(base);
  });
});

describe("another key for another", () => {
  const others: [string, string][] = [
    ["scope", keyOf([system, question, answer, next], { conversationScope: "user-2" })],
    ["model", keyOf([system, question, answer, next], { model: "n" })],
    ["tool", keyOf([system, question, answer, next], { tools: [tool] })],
    ["description of a tool", keyOf([system, question, answer, next], { tools: [{ ...tool, description: "" }] })],
    ["schema of a tool", keyOf([system, question, answer, next], { tools: [{ ...tool, parametersJson: "{}" }] })],
    ["system prompt", keyOf([say(Role.SYSTEM, "Be long."), question, answer, next])],
    ["absence of a system prompt", keyOf([question, answer, next])],
    ["question", keyOf([system, say(Role.USER, "What is two and three?"), answer, next])],
    ["answer", keyOf([system, question, say(Role.ASSISTANT, "Five."), next])],
    ["space inside the answer", keyOf([system, question, say(Role.ASSISTANT, "Fo ur."), next])],
    ["white space around the question", keyOf([system, say(Role.USER, "What is two and two? "), answer, next])],
    ["role", keyOf([say(Role.USER, "Be brief."), question, answer, next])],
    ["author", keyOf([system, { ...question, name: "bob" }, answer, next])],
    ["cut into messages", keyOf([system, say(Role.USER, "What is"), say(Role.USER, " two and two?"), answer, next])],
    ["picture", keyOf([system, { ...question, parts: [image("image/png", 1)] }, answer, next])],
    ["kind of picture", keyOf([system, { ...question, parts: [image("image/gif", 1)] }, answer, next])],
    ["called tool", keyOf([system, question, { ...answer, toolCalls: [call] }, next])],
    ["argument", keyOf([system, question, { ...answer, toolCalls: [{ ...call, argumentsJson: "{}" }] }, next])],
    ["call", keyOf([system, question, { ...answer, toolCalls: [{ ...call, id: "call_2" }] }, next])],
  ];

  test.each(others)("%s", (_, key) => {
    expect(key).not.toBe(base);
  });

  test("and none of them the same", () => {
    expect(new Set(others.map(([, key]) => key)).size).toBe(others.length);
  });

  test("text that imitates the form in which it is hashed", () => {
    const joined = say(Role.USER, "a\n1x\n0n\n1rb");
    expect(keyOf([joined, answer, next])).not.toBe(keyOf([say(Role.USER, "a"), say(Role.USER, "b"), answer, next]));
  });
});

describe("tool calls", () => {
  const asked = { ...answer, parts: [], toolCalls: [call] };
  const result = { ...say(Role.TOOL, "rain"), toolCallId: "call_1" };

  test("a parked call is found by its result", () => {
    const kept = keptKey([question], [], [call], { tools: [tool] });
    expect(keyOf([question, asked, result], { tools: [tool] })).toBe(kept);
  });

  test("the spacing of the arguments does not count", () => {
    const spaced = { ...asked, toolCalls: [{ ...call, argumentsJson: '{ "city":"Oslo" }' }] };
    expect(keyOf([question, spaced, result])).toBe(keyOf([question, asked, result]));
  });

  test("what the tool said belongs to the conversation", () => {
    const kept = keptKey([question, asked, result], ["It rains."]);
    const dry = { ...result, parts: say(Role.TOOL, "sun").parts };
    expect(keyOf([question, asked, result, say(Role.ASSISTANT, "It rains."), next])).toBe(kept);
    expect(keyOf([question, asked, dry, say(Role.ASSISTANT, "It rains."), next])).not.toBe(kept);
  });

  test("tools that may not be called are no tools", () => {
    const none = { tools: [tool], toolChoice: { mode: ToolChoiceMode.NONE } };
    expect(keyOf([system, question, answer, next], none)).toBe(base);
  });
});
