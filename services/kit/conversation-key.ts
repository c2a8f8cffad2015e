// Names a conversation by everything that was said in it, so that a request which continues it finds the live session that heard it.
// Whoever does not hold the same words, scope, model and tools has another key.
import { createHash, type Hash } from "node:crypto";
import { type Message, type Prompt, Role, type ToolCall, ToolChoiceMode } from "#gen/drawbridge/v1/prompt";

/** Follows an answer while it streams, to the key under which the session that gave it can be continued. */
export interface AnswerKey {
  text(piece: string): void;
  toolCall(call: Pick<ToolCall, "id" | "name" | "argumentsJson">): void;
  /** The conversation with the answer. Empty: it cannot be continued. Called once. */
  key(): string;
}

/** White space that may stand inside an answer before its conversation is given up. */
const spaceCharsMax = 65_536;

/**
 * The key of the conversation that a request continues: its messages up to and including the last of the assistant. Empty where it continues
 * none: without a scope, without an earlier answer, or with nothing new after it.
 */
export function continuedConversation(prompt: Prompt): string {
  const heard = heardCount(prompt.messages);
  if (prompt.conversationScope === "" || heard === 0 || heard === prompt.messages.length) return "";
  return hashPrompt(prompt, heard).digest("hex");
}

/** What a request adds to the conversation that it continues. */
export function newMessages(messages: readonly Message[]): readonly Message[] {
  return messages.slice(heardCount(messages));
}

/** undefined without a scope: then no session is kept. */
export function followAnswer(prompt: Prompt): AnswerKey | undefined {
  if (prompt.conversationScope === "") return undefined;
  const hash = hashPrompt(prompt, prompt.messages.length);
  const text = trimmedField(hash);
  const calls: Pick<ToolCall, "id" | "name" | "argumentsJson">[] = [];
  return {
    text: (piece) => text.push(piece),
    toolCall: (call) => void calls.push(call),
    key() {
      if (!text.end()) return "";
      endAssistant(hash, calls);
      return hash.digest("hex");
    },
  };
}

function heardCount(messages: readonly Message[]): number {
  return messages.findLastIndex(({ role }) => role === Role.ASSISTANT) + 1;
}

function hashPrompt(prompt: Prompt, count: number): Hash {
  const hash = createHash("sha256");
  field(hash, "v", "1");
  field(hash, "s", prompt.conversationScope);
  field(hash, "m", prompt.model);
  if (prompt.toolChoice?.mode !== ToolChoiceMode.NONE) {
    for (const tool of prompt.tools) {
      field(hash, "t", tool.name);
      field(hash, "d", tool.description);
      field(hash, "p", tool.parametersJson);
    }
  }
  for (const message of prompt.messages.slice(0, count)) addMessage(hash, message);
  return hash;
}

function addMessage(hash: Hash, message: Message): void {
  if (message.role === Role.ASSISTANT) {
    const text = trimmedField(hash);
    for (const { part } of message.parts) if (part.case === "text") text.push(part.value);
    text.end();
    endAssistant(hash, message.toolCalls);
    return;
  }
  // Texts that stand side by side are one text to an agent, however a client cut them.
  let text = "";
  for (const { part } of message.parts) {
    if (part.case === "text") text += part.value;
    if (part.case !== "image") continue;
    if (text !== "") field(hash, "x", text);
    text = "";
    const { data, mediaType } = part.value;
    hash.update(data);
    close(hash, "b", data.length);
    field(hash, "i", mediaType);
  }
  if (text !== "") field(hash, "x", text);
  field(hash, "n", message.name);
  if (message.role === Role.TOOL) field(hash, "c", message.toolCallId);
  field(hash, "r", String(message.role === Role.DEVELOPER ? Role.SYSTEM : message.role));
}

/**
 * What clients change when they send an answer back does not count: white space around it, its cut into parts, a name that they gave the
 * assistant, the spacing of a tool call's arguments.
 */
function endAssistant(hash: Hash, calls: readonly Pick<ToolCall, "id" | "name" | "argumentsJson">[]): void {
  for (const call of calls) {
    field(hash, "k", call.id);
    field(hash, "f", call.name);
    field(hash, "a", compact(call.argumentsJson));
  }
  field(hash, "r", String(Role.ASSISTANT));
}

function compact(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json));
  } catch {
    return json;
  }
}

/** A text in pieces, without the white space around it. `end` is false where too much white space stood inside. */
function trimmedField(hash: Hash): { push(piece: string): void; end(): boolean } {
  let chars = 0;
  let space = "";
  let given = true;
  return {
    push(piece) {
      const text = space + piece;
      const end = text.trimEnd().length;
      space = text.slice(end);
      if (space.length > spaceCharsMax) {
        given = false;
        space = "";
      }
      if (end === 0) return;
      const whole = text.slice(0, end);
      const added = chars === 0 ? whole.trimStart() : whole;
      hash.update(added);
      chars += added.length;
    },
    end() {
      close(hash, "x", chars);
      return given;
    },
  };
}

/**
 * A field is closed by its length and a letter. Read from the end, every sequence of fields can be told from every other one, and a field can
 * be hashed before its length is known.
 */
function field(hash: Hash, letter: string, text: string): void {
  hash.update(text);
  close(hash, letter, text.length);
}

function close(hash: Hash, letter: string, length: number): void {
  hash.update(`\n${length}${letter}`);
}
