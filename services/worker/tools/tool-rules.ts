// What a request says about its tools, in the words of MCP and of the prompt. Pure.
import { type Message, type Prompt, Role, type Tool, ToolChoiceMode } from "#gen/drawbridge/v1/prompt";
import { DrawbridgeError } from "../../kit/errors.ts";
import { isObject } from "../protocol/acp-connection.ts";
import type { OfferedTool, ResultContent, ToolCallInHand, ToolResult } from "./tool-desk.ts";

export interface ToolRules {
  /** Empty: none is offered. */
  readonly tools: readonly OfferedTool[];
  /** The answer has to contain a call. */
  readonly required: boolean;
  /** The one tool that may be called; undefined: any. */
  readonly only: string | undefined;
  /** At most one call in an answer. */
  readonly single: boolean;
}

/** INVALID_ARGUMENT for a choice without tools, a tool that is not there, or parameters that are no JSON Schema of an object. */
export function toolRules(prompt: Prompt): ToolRules {
  const choice = prompt.toolChoice;
  const required = choice?.mode === ToolChoiceMode.REQUIRED;
  const only = required && choice.name !== "" ? choice.name : undefined;
  if (required && prompt.tools.length === 0)
    throw new DrawbridgeError("INVALID_ARGUMENT", "tool_choice asks for a tool, and there are no tools.");
  if (only !== undefined && !prompt.tools.some(({ name }) => name === only))
    throw new DrawbridgeError("INVALID_ARGUMENT", `tool_choice names ${only}, which is not among the tools.`);
  const names = new Set(prompt.tools.map(({ name }) => name));
  if (names.size < prompt.tools.length)
    throw new DrawbridgeError("INVALID_ARGUMENT", "tools: two of them have the same name.");
  const tools = choice?.mode === ToolChoiceMode.NONE ? [] : prompt.tools.map(offered);
  return { tools, required, only, single: choice?.single === true };
}

/** What the agent is told, since it cannot be forced. */
export function choiceInstruction({ required, only }: Pick<ToolRules, "required" | "only">): string | undefined {
  if (!required) return undefined;
  const which = only === undefined ? "one of the tools of the application" : `the tool ${only}`;
  return `Call ${which} now, before you answer.`;
}

function offered({ name, description, parametersJson }: Tool): OfferedTool {
  if (parametersJson === "") return { name, description, inputSchema: { type: "object", properties: {} } };
  const schema = parse(parametersJson);
  if (!isObject(schema) || (schema["type"] ?? "object") !== "object")
    throw new DrawbridgeError("INVALID_ARGUMENT", `tools: the parameters of ${name} are no JSON Schema of an object.`);
  return { name, description, inputSchema: { type: "object", ...schema } };
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json) as unknown;
  } catch {
    return undefined;
  }
}

/** Result by call, if the new messages are exactly the results of these calls; undefined otherwise. */
export function resultsFor(
  calls: readonly ToolCallInHand[],
  messages: readonly Message[],
): ReadonlyMap<string, ToolResult> | undefined {
  if (messages.length !== calls.length || messages.some(({ role }) => role !== Role.TOOL)) return undefined;
  const results = new Map(messages.map((message) => [message.toolCallId, resultOf(message)]));
  return calls.every(({ id }) => results.has(id)) ? results : undefined;
}

function resultOf({ parts }: Message): ToolResult {
  const content = parts.flatMap(({ part }): ResultContent[] => {
    if (part.case === "text") return [{ type: "text", text: part.value }];
    if (part.case !== "image") return [];
    const { data, mediaType } = part.value;
    return [{ type: "image", data: Buffer.from(data).toString("base64"), mimeType: mediaType }];
  });
  return { content, isError: false };
}
