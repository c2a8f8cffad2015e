// Messages of a conversation in the contract's words.
import { create } from "@bufbuild/protobuf";
import { type Message, MessageSchema, Role, type Tool, ToolSchema } from "#gen/drawbridge/v1/prompt";

function message(role: Role, text: string, fields: object = {}): Message {
  const parts = text === "" ? [] : [{ part: { case: "text" as const, value: text } }];
  return create(MessageSchema, { role, parts, ...fields });
}

export const system = (text: string): Message => message(Role.SYSTEM, text);
export const user = (text: string): Message => message(Role.USER, text);
export const assistant = (text: string): Message => message(Role.ASSISTANT, text);

export interface CalledTool {
  readonly id: string;
  readonly name: string;
  readonly argumentsJson: string;
}

export const calling = (text: string, ...toolCalls: CalledTool[]): Message =>
  message(Role.ASSISTANT, text, { toolCalls });
export const toolResult = (toolCallId: string, text: string): Message => message(Role.TOOL, text, { toolCallId });

/** The message of a user that makes the faulty agent do this. */
export const instruct = (instruction: { readonly do: string }): Message => user(JSON.stringify(instruction));

export function tool(name: string, properties: object = {}): Tool {
  const parametersJson = JSON.stringify({ type: "object", properties });
  return create(ToolSchema, { name, description: `Does ${name}.`, parametersJson });
}
