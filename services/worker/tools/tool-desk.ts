// The client's tools as one session sees them: what is offered, and the calls that wait for the client.
import type { Frame } from "../protocol/framing.ts";
import { permitsCall } from "./tool-permission.ts";

/** A tool, as MCP describes it. */
export interface OfferedTool {
  readonly name: string;
  readonly description: string;
  readonly inputSchema: Frame;
}

/** A piece of a result, as MCP writes it. */
export type ResultContent =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "image"; readonly data: string; readonly mimeType: string };

export interface ToolResult {
  readonly content: readonly ResultContent[];
  readonly isError: boolean;
}

/** A call that the agent made and waits for. */
export interface ToolCallInHand {
  readonly id: string;
  readonly name: string;
  readonly argumentsJson: string;
  /** Answers the agent. Later answers count for nothing. */
  answer(result: ToolResult): void;
}

/** One call, on the side of the server that the agent speaks to. */
export interface CallSlot {
  /** What the client says; a failure when the desk closes first. */
  readonly result: Promise<ToolResult>;
  /** The agent waits no longer. */
  giveUp(): void;
}

export interface ToolDesk extends Disposable {
  readonly tools: readonly OfferedTool[];
  /** The agent asked what there is. */
  markListed(): void;
  /** Resolves when it has. */
  readonly listed: Promise<void>;
  /** Whether the agent may make the call that it asks permission for. */
  permits(toolCall: Frame): boolean;
  /** The agent calls. undefined: more calls wait than it may make. */
  call(name: string, argumentsJson: string): CallSlot | undefined;
  /** The oldest call that nobody took. */
  take(): ToolCallInHand | undefined;
  /** Told when there is a call to take. One listener at a time. */
  onCall(listener: (() => void) | undefined): void;
  /** Told when the agent gives a call up that was taken and has no answer. One listener at a time. */
  onGivenUp(listener: (() => void) | undefined): void;
}

export interface ToolDeskOptions {
  readonly tools: readonly OfferedTool[];
  /** The name of the MCP server. */
  readonly server: string;
  readonly newCallId: () => string;
  readonly onDispose: () => void;
}

/** Calls of one session that wait at the same time. */
const callsMax = 128;

export function createToolDesk({ tools, server, newCallId, onDispose }: ToolDeskOptions): ToolDesk {
  const { promise: listed, resolve: markListed } = Promise.withResolvers<void>();
  const names = tools.map(({ name }) => name);
  const open = new Map<string, (result: ToolResult) => void>();
  const queue: ToolCallInHand[] = [];
  let hearCall: (() => void) | undefined;
  let hearGivenUp: (() => void) | undefined;

  function call(name: string, argumentsJson: string): CallSlot | undefined {
    if (!names.includes(name)) return { result: Promise.resolve(failure(`There is no tool ${name}.`)), giveUp() {} };
    if (open.size >= callsMax) return undefined;
    const { promise: result, resolve } = Promise.withResolvers<ToolResult>();
    const id = newCallId();
    const settle = (answer: ToolResult) => {
      open.delete(id);
      resolve(answer);
    };
    open.set(id, settle);
    queue.push({ id, name, argumentsJson, answer: settle });
    hearCall?.();
    return {
      result,
      giveUp() {
        if (!open.has(id)) return;
        settle(failure("Nobody waits for the result any more."));
        const index = queue.findIndex((each) => each.id === id);
        if (index >= 0) queue.splice(index, 1);
        else hearGivenUp?.();
      },
    };
  }

  return {
    tools,
    markListed,
    listed,
    permits: (toolCall) => permitsCall(toolCall, server, names),
    call,
    take: () => queue.shift(),
    onCall: (listener) => void (hearCall = listener),
    onGivenUp: (listener) => void (hearGivenUp = listener),
    [Symbol.dispose]() {
      for (const settle of open.values()) settle(failure("The tool's result did not come."));
      queue.length = 0;
      onDispose();
    },
  };
}

/** A result that tells the model what went wrong. */
export function failure(text: string): ToolResult {
  return { content: [{ type: "text", text }], isError: true };
}
