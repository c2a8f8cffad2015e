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
  const offered = toolsIn(body["tools"], undefined);
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
