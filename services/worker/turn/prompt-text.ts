// A stateless conversation as one ACP prompt. Agents keep history by themselves and take one user message, so earlier messages become a
// transcript whose delimiters carry a mark that no message contains.
import type { ContentBlock } from "@agentclientprotocol/sdk/unstable";
import { type ContentPart, type Message, Role } from "#gen/drawbridge/v1/prompt";
import { DrawbridgeError } from "../../kit/errors.ts";

export interface PromptTextOptions {
  /** Whether the agent advertised images. */
  readonly takesImages: boolean;
  /** Whether the session has the instructions already. */
  readonly leaveOutInstructions?: boolean;
  /** What the request demands beyond its messages, such as the form of the answer. */
  readonly demands?: readonly string[];
}

/** UNSUPPORTED_CONTENT if there is an image and the agent takes none. */
export function promptBlocks(messages: readonly Message[], options: PromptTextOptions): ContentBlock[] {
  refuseImages(messages, options);
  const { leaveOutInstructions = false, demands = [] } = options;
  const instructions = leaveOutInstructions ? [] : messages.filter(isInstruction).map(({ parts }) => partBlocks(parts));
  instructions.push(...demands.map((demand) => [textBlock(demand)]));
  const conversation = messages.filter((message) => !isInstruction(message));
  const last = conversation.at(-1)?.role === Role.USER ? conversation.at(-1) : undefined;
  if (last && instructions.length === 0 && conversation.length === 1) return mergeText(partBlocks(last.parts));
  const history = last ? conversation.slice(0, -1) : conversation;
  const mark = unusedMark(messages, demands);
  return mergeText([
    ...instructionSection(instructions, mark),
    ...historyBlocks(history, mark),
    ...(last ? lastBlocks(last, history.length > 0) : [textBlock(continuation(history))]),
  ]);
}

/** The instructions alone, for an agent that takes them apart from the prompt. Empty where they have pictures: those stay in the prompt. */
export function instructionBlocks(messages: readonly Message[]): ContentBlock[] {
  const instructions = messages.filter(isInstruction).map(({ parts }) => partBlocks(parts));
  if (instructions.flat().some(({ type }) => type !== "text")) return [];
  return mergeText(joined(instructions));
}

function isInstruction(message: Message): boolean {
  return message.role === Role.SYSTEM || message.role === Role.DEVELOPER;
}

function refuseImages(messages: readonly Message[], { takesImages }: PromptTextOptions): void {
  if (takesImages || !messages.some(({ parts }) => parts.some(({ part }) => part.case === "image"))) return;
  throw new DrawbridgeError(
    "UNSUPPORTED_CONTENT",
    "This model's agent takes no images. Send text only, or use another model.",
  );
}

function instructionSection(instructions: readonly ContentBlock[][], mark: string): ContentBlock[] {
  if (instructions.length === 0) return [];
  return [
    textBlock(`Instructions of the application, which you follow in your answer (between the lines marked ${mark}):\n`),
    textBlock(`=== INSTRUCTIONS ${mark} ===\n`),
    ...joined(instructions),
    textBlock(`\n=== END OF INSTRUCTIONS ${mark} ===\n\n`),
  ];
}

function joined(texts: readonly ContentBlock[][]): ContentBlock[] {
  return texts.flatMap((blocks, index) => (index > 0 ? [textBlock("\n\n"), ...blocks] : blocks));
}

function historyBlocks(messages: readonly Message[], mark: string): ContentBlock[] {
  if (messages.length === 0) return [];
  return [
    textBlock(`The conversation so far (each message stands between lines marked ${mark}):\n`),
    ...messages.flatMap((message) => [
      textBlock(`=== ${author(message)} ${mark} ===\n`),
      ...partBlocks(message.parts),
      ...message.toolCalls.map(({ name, id, argumentsJson }) =>
        textBlock(`\n=== ASSISTANT CALLS TOOL ${word(name)} AS ${word(id)} ${mark} ===\n${argumentsJson}`),
      ),
      textBlock("\n"),
    ]),
    textBlock(`=== END OF CONVERSATION ${mark} ===\n\n`),
  ];
}

function lastBlocks(message: Message, afterHistory: boolean): ContentBlock[] {
  const lead = afterHistory ? [textBlock("Answer the user's next message:\n\n")] : [];
  return [...lead, ...partBlocks(message.parts)];
}

function continuation(history: readonly Message[]): string {
  const role = history.at(-1)?.role;
  if (role === Role.TOOL) return "Go on with the result of the tool.";
  if (role === Role.ASSISTANT) return "Continue the assistant's last message from where it ends.";
  return "Answer as the instructions say.";
}

function author(message: Message): string {
  const name = message.name ? ` (${message.name.replaceAll(/[^\p{L}\p{N} ._-]/gu, "_")})` : "";
  if (message.role === Role.ASSISTANT) return `ASSISTANT${name}`;
  if (message.role === Role.TOOL) return `RESULT OF TOOL CALL ${word(message.toolCallId)}`;
  return `USER${name}`;
}

/** A name that cannot end its line. */
function word(text: string): string {
  return text.replaceAll(/[^\w.-]/g, "_");
}

function partBlocks(parts: readonly ContentPart[]): ContentBlock[] {
  return parts.flatMap(({ part }): ContentBlock[] => {
    if (part.case === "text") return [textBlock(part.value)];
    if (part.case !== "image") return [];
    const { mediaType, data } = part.value;
    return [{ type: "image", mimeType: mediaType, data: Buffer.from(data).toString("base64") }];
  });
}

function textBlock(text: string): ContentBlock {
  return { type: "text", text };
}

function mergeText(blocks: readonly ContentBlock[]): ContentBlock[] {
  const merged: ContentBlock[] = [];
  for (const block of blocks) {
    const last = merged.at(-1);
    if (block.type === "text" && last?.type === "text") merged[merged.length - 1] = textBlock(last.text + block.text);
    else merged.push(block);
  }
  return merged;
}

/** A word for the delimiters that stands in no message, so that no message can end its own section. The same messages give the same one. */
function unusedMark(messages: readonly Message[], demands: readonly string[]): string {
  // The texts of a message stand side by side in the prompt, so that a mark may lie across them.
  const texts = messages.flatMap(({ parts, toolCalls }) => {
    const own = parts.flatMap(({ part }) => (part.case === "text" ? [part.value] : []));
    return [...own, own.length > 1 ? own.join("") : "", ...toolCalls.map(({ argumentsJson }) => argumentsJson)];
  });
  const used = new Set(
    [...texts, ...demands].flatMap((text) => [...text.matchAll(/#(\d{1,9})/g)].map((match) => Number(match[1]))),
  );
  let number = 1;
  while (used.has(number)) number += 1;
  return `#${number}`;
}

/** The text of a prompt, for counting. */
export function promptText(blocks: readonly ContentBlock[]): string {
  return blocks.map((block) => (block.type === "text" ? block.text : "")).join("");
}
