// Calls of tools by the local model: which tool a script means among those that a request offers.
import type { Body } from "./dialect.ts";

/** A call, in the names of the request. */
export interface ToolCall {
  readonly id: string;
  readonly name: string;
  /** Where the API groups tools. */
  readonly namespace: string | undefined;
  readonly input: Readonly<Record<string, string>>;
}

/** What a script asks for: a tool by the name that the client gave it. */
export interface ScriptedCall {
  readonly name: string;
  readonly input: Readonly<Record<string, string>>;
}

/** Agents put a prefix before names. A tool that is not offered is called by its own name all the same. */
export function resolveCalls(calls: readonly ScriptedCall[], body: Body, round: number): ToolCall[] {
  const offered = [...toolsIn(body["tools"], undefined), ...searched(body)];
  return calls.map(({ name, input }, index) => {
    const found = offered.find((each) => each.name === name || each.name.endsWith(`_${name}`));
    return { id: `call_${round}_${index}`, name, namespace: undefined, ...found, input };
  });
}

function toolsIn(tools: unknown, namespace: string | undefined): Pick<ToolCall, "name" | "namespace">[] {
  if (!Array.isArray(tools)) return [];
  return (tools as Body[]).flatMap((tool) => {
    if (tool["type"] === "namespace") return toolsIn(tool["tools"], String(tool["name"]));
    if (Array.isArray(tool["functionDeclarations"])) return toolsIn(tool["functionDeclarations"], namespace);
    const inner = tool["function"] as Body | undefined;
    return [{ name: String(inner?.["name"] ?? tool["name"]), namespace }];
  });
}

/** Whether a call needs a search first: the tool is hidden behind one, and none was made. */
export function needsSearch(calls: readonly ScriptedCall[], body: Body): boolean {
  const tools = Array.isArray(body["tools"]) ? (body["tools"] as Body[]) : [];
  if (!tools.some((tool) => tool["type"] === "tool_search")) return false;
  const found = searched(body);
  const names = [...toolsIn(body["tools"], undefined), ...found].map(({ name }) => name);
  return found.length === 0 && calls.some(({ name }) => !names.includes(name));
}

/** Tools that a search found. */
function searched(body: Body): Pick<ToolCall, "name" | "namespace">[] {
  const items = Array.isArray(body["input"]) ? (body["input"] as Body[]) : [];
  return items.flatMap((item) => (item["type"] === "tool_search_output" ? toolsIn(item["tools"], undefined) : []));
}
