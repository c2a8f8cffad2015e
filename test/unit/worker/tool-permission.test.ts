import { describe, expect, it } from "vitest";
import { permitsCall } from "../../../services/worker/tools/tool-permission.ts";

const permits = (toolCall: object) => permitsCall({ ...toolCall }, "drawbridge", ["get_weather", "get_time"]);
const question = (tool: string, server = "drawbridge") => `Allow the ${server} MCP server to run tool "${tool}"?`;

describe("a call of a client's tool is permitted", () => {
  it.each([
    ["by its title", { title: "mcp__drawbridge__get_weather", kind: "other" }],
    ["by its title in another form", { title: "drawbridge_get_time" }],
    ["by its name", { title: "Weather", name: "mcp__drawbridge__get_weather" }],
    ["beside it", { title: '{"city":"Oslo"}', kind: "other", _meta: { toolName: "mcp__drawbridge__get_weather" } }],
    ["by fields of the input", { title: "Call", rawInput: { server: "drawbridge", tool: "get_time" } }],
    [
      "by fields alone, whatever its kind",
      { kind: "execute", rawInput: { server: "drawbridge", tool: "get_time", arguments: {} } },
    ],
    [
      "by Codex's question",
      {
        title: "Approve MCP tool call",
        rawInput: { server_name: "drawbridge", request: { message: question("get_weather") } },
      },
    ],
  ])("%s", (_, toolCall) => {
    expect(permits(toolCall)).toBe(true);
  });
});

describe("whatever is not surely one is refused", () => {
  it.each([
    ["a command", { title: "rm -rf /", kind: "execute" }],
    ["a command named like a tool", { title: "drawbridge_get_time", kind: "execute" }],
    ["a command that contains the name", { title: "echo mcp__drawbridge__get_weather" }],
    [
      "a command with our fields beside it",
      { title: "Run", rawInput: { server: "drawbridge", tool: "get_time", command: "rm -rf /" } },
    ],
    ["another tool of ours", { title: "mcp__drawbridge__other" }],
    ["a tool of another server", { title: "mcp__files__get_weather" }],
    ["a bare name", { title: "get_weather" }],
    [
      "a question about another tool",
      { rawInput: { server_name: "drawbridge", request: { message: question("shell") } } },
    ],
    [
      "a question about another server",
      { rawInput: { server_name: "drawbridge", request: { message: question("get_weather", "files") } } },
    ],
    ["nothing", {}],
  ])("%s", (_, toolCall) => {
    expect(permits(toolCall)).toBe(false);
  });
});
