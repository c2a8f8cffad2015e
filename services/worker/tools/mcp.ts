// The part of the Model Context Protocol that a server of tools needs: which answer a message gets. Pure.
import { isObject } from "../protocol/acp-connection.ts";
import type { Frame } from "../protocol/framing.ts";
import type { OfferedTool } from "./tool-desk.ts";

/** What to do with a message. */
export type McpStep =
  /** A notification, or an answer to nothing. */
  | { readonly kind: "accept" }
  /** Answer at once. */
  | { readonly kind: "answer"; readonly message: Frame; readonly listed: boolean }
  /** A call of a tool. */
  | { readonly kind: "call"; readonly call: McpCall };

export interface McpCall {
  readonly id: string | number;
  readonly name: string;
  readonly argumentsJson: string;
  /** With what to tell how the call goes on; undefined: the agent did not ask for that. */
  readonly progressToken: string | number | undefined;
}

const versions = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
const preferredVersion = "2025-06-18";

export function readMcp(message: unknown, tools: readonly OfferedTool[], serverInfo: Frame): McpStep {
  if (!isObject(message)) return reply(failed(null, -32600, "A message is one JSON object."));
  const { id, method } = message;
  if (typeof method !== "string" || (typeof id !== "string" && typeof id !== "number")) return { kind: "accept" };
  const params = isObject(message["params"]) ? message["params"] : {};
  switch (method) {
    case "initialize": {
      const asked = params["protocolVersion"];
      const protocolVersion = typeof asked === "string" && versions.includes(asked) ? asked : preferredVersion;
      return reply(result(id, { protocolVersion, capabilities: { tools: {} }, serverInfo }));
    }
    case "ping":
      return reply(result(id, {}));
    case "tools/list":
      return { ...reply(result(id, { tools })), listed: true };
    case "tools/call":
      return readCall(id, params);
    default:
      return reply(failed(id, -32601, "Method not found"));
  }
}

function readCall(id: string | number, params: Frame): McpStep {
  const { name } = params;
  const called = params["arguments"] ?? {};
  if (typeof name !== "string" || !isObject(called))
    return reply(failed(id, -32602, "A call has a name and arguments."));
  const meta = params["_meta"];
  const token = isObject(meta) ? meta["progressToken"] : undefined;
  const progressToken = typeof token === "string" || typeof token === "number" ? token : undefined;
  return { kind: "call", call: { id, name, argumentsJson: JSON.stringify(called), progressToken } };
}

function reply(message: Frame): Extract<McpStep, { kind: "answer" }> {
  return { kind: "answer", message, listed: false };
}

export function result(id: string | number, value: object): Frame {
  return { jsonrpc: "2.0", id, result: value };
}

export function failed(id: string | number | null, code: number, message: string): Frame {
  return { jsonrpc: "2.0", id, error: { code, message } };
}

export function progress(progressToken: string | number, count: number): Frame {
  return { jsonrpc: "2.0", method: "notifications/progress", params: { progressToken, progress: count } };
}
