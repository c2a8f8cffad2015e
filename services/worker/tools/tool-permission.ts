// Whether a call that an agent asks permission for is one of the client's tools. Pure. Whatever is not surely one is refused.
import { isObject } from "../protocol/acp-connection.ts";
import type { Frame } from "../protocol/framing.ts";

/** Kinds that are never a client's tool, whatever they are called. */
const otherKinds = new Set(["edit", "delete", "move", "execute", "switch_mode"]);

/**
 * Agents name the call in its `name`, its title, its `_meta`, or its raw input, as server and tool, joined in one of several ways. The names are compared
 * whole, so that no other call passes for one of ours by containing our words.
 */
export function permitsCall(toolCall: Frame, server: string, tools: readonly string[]): boolean {
  if (typeof toolCall["kind"] === "string" && otherKinds.has(toolCall["kind"])) return false;
  const allowed = new Set(tools.flatMap((tool) => spellings(server, tool)));
  const { rawInput, _meta: meta } = toolCall;
  const said = [
    toolCall["name"],
    toolCall["title"],
    isObject(meta) ? meta["toolName"] : undefined,
    ...(isObject(rawInput) ? namesIn(rawInput) : []),
  ];
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

/** The server and the tool that the raw input names in fields of their own, or, as Codex does, in its question. */
function namesIn(rawInput: Frame): string[] {
  const { server, tool, server_name: asker, request } = rawInput;
  if (typeof server === "string" && typeof tool === "string") return [`${server}.${tool}`];
  if (typeof asker !== "string" || !isObject(request) || typeof request["message"] !== "string") return [];
  const question = /^Allow the (.+) MCP server to run tool "([^"]+)"\?$/.exec(request["message"]);
  return question?.[1] === asker ? [`${asker}.${question[2]}`] : [];
}
