// One of the APIs through which agents ask a model provider.

import type { ToolCall } from "./tools.ts";

/** A request's body, parsed. */
export type Body = Readonly<Record<string, unknown>>;

/** An answer on its way, in the words of the API. */
export interface Answering {
  /** What goes out before the first piece. */
  begin(): string;
  piece(text: string): string;
  /** `text`: the whole answer. */
  end(text: string): string;
  /** A whole streamed answer that calls tools. */
  calls(calls: readonly ToolCall[]): string;
  /** A whole streamed answer that searches for tools. */
  search?(query: string): string;
  /** The whole answer at once, for a request that is not streamed. */
  whole(text: string): object;
}

export interface Dialect {
  /** Whether a request for this path, without its query, is for this API. */
  matches(path: string): boolean;
  /** Whether the answer is streamed. */
  streams(path: string, body: Body): boolean;
  /** The text of the last message that is the user's. */
  lastUserText(body: Body): string;
  /** What tools said after that message, as JSON; undefined: nothing yet. */
  toolResults(body: Body): string | undefined;
  answer(body: Body): Answering;
}

/** A server-sent event. */
export function event(data: unknown, name?: string): string {
  return `${name === undefined ? "" : `event: ${name}\n`}data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`;
}

/** What follows the last message that `isUser`, where it passes. */
export function after(
  messages: unknown,
  isUser: (message: Body) => boolean,
  passes: (message: Body) => boolean,
): Body[] {
  const list = Array.isArray(messages) ? (messages as Body[]) : [];
  return list.slice(list.findLastIndex(isUser) + 1).filter(passes);
}

/** As JSON; undefined if there is nothing. */
export function asResults(found: readonly unknown[]): string | undefined {
  return found.length === 0 ? undefined : JSON.stringify(found);
}

/** What the last message of this role carries, as text to look for instructions in. */
export function lastContent(messages: unknown, role: string, field: string): string {
  const list = Array.isArray(messages) ? (messages as Body[]) : [];
  return JSON.stringify(list.findLast((message) => message["role"] === role)?.[field] ?? "");
}
