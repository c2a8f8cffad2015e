// Whether a call that an agent asks permission for is one of the client's tools. Pure. Whatever is not surely one is refused.
import { isObject } from "../protocol/acp-connection.ts";
import type { Frame } from "../protocol/framing.ts";

/** Kinds that are never a client's tool by their name alone. */
const otherKinds = new Set(["edit", "delete", "move", "execute", "switch_mode"]);

/**
 * Agents name the call in its `name`, its title, its `_meta`, or its raw input, as server and tool, joined in one of several ways. The names
 * are compared whole, so that no other call passes for one of ours by containing our words.
 */
export function permitsCall(toolCall: Frame, server: string, tools: readonly string[]): boolean {
  const { rawInput, _meta: meta, kind } = toolCall;
  const named = isObject(rawInput) ? nameIn(rawInput) : undefined;
  if (named !== undefined) return tools.some((tool) => named === `${server}.${tool}`);
  if (typeof kind === "string" && otherKinds.has(kind)) return false;
  const allowed = new Set(tools.flatMap((tool) => spellings(server, tool)));
  const said = [toolCall["name"], toolCall["title"], isObject(meta) ? meta["toolName"] : undefined];
  return said.some((name) => typeof name === "string" && allowed.has(name));
}

function spellings(server: string, tool: string): string[] {
  return [
    `mcp__${server}__${tool}`,
    `mcp_${server}_${tool}`,
    `${server}__${tool}`,
    `${server}_${tool}`,
    `${server}.${tool}`,
    `${server}/${tool}`,
    `${server}: ${tool}`,
    `Tool: ${server}/${tool}`,
    `${tool} (${server} MCP Server)`,
  ];
}

/** What the raw input of a call over MCP consists of, in either adapter of Codex. A model writes the raw input of other tools: more is none. */
const inputFields = new Set(["server", "tool", "arguments", "server_name", "request", "id", "turn_id"]);

/** The server and the tool that the raw input names in fields of their own, or in its question. */
function nameIn(rawInput: Frame): string | undefined {
  if (!Object.keys(rawInput).every((field) => inputFields.has(field))) return undefined;
  const { server, tool, server_name: asker, request } = rawInput;
  if (typeof server === "string" && typeof tool === "string") return `${server}.${tool}`;
  if (typeof asker !== "string" || !isObject(request) || typeof request["message"] !== "string") return undefined;
  const question = /^Allow the (.+) MCP server to run tool "([^"]+)"\?$/.exec(request["message"]);
  return question?.[1] === asker ? `${asker}.${question[2]}` : undefined;
}
