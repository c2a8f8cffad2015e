// An ACP agent that costs as little as it can: no model, no packages, JSON-RPC written by hand. Its prompts say what to answer.
import { writeSync } from "node:fs";
import { playAnswer } from "./answer.ts";
import { parsePrompt } from "./prompt.ts";

interface Request {
  readonly id?: number | string;
  readonly method?: string;
  readonly params?: { readonly sessionId?: string };
}

const standardOutput = 1;
/** Sessions whose turn was cancelled. */
const cancelled = new Set<string>();
/** Turns that stay open until they are cancelled, by session. */
const held = new Map<string, () => void>();
let sessions = 0;
let unfinished = "";

process.stdin.setEncoding("utf8");
process.stdin.on("data", (text: string) => {
  const lines = (unfinished + text).split("\n");
  unfinished = lines.pop() ?? "";
  for (const line of lines) if (line !== "") receive(line);
});
process.stdin.on("end", () => process.exit(0));

function receive(line: string): void {
  const receivedAt = performance.now();
  const { id, method, params } = JSON.parse(line) as Request;
  if (method === "session/prompt" && id !== undefined) prompt(line, id, params?.sessionId ?? "", receivedAt);
  else if (method === "session/cancel") cancel(params?.sessionId ?? "");
  else if (method === "session/new") answer(id, { sessionId: `s${(sessions += 1)}` });
  else if (method === "initialize") answer(id, { protocolVersion: 1, agentCapabilities: {}, authMethods: [] });
  else if (id !== undefined && method !== undefined) {
    send(`{"jsonrpc":"2.0","id":${JSON.stringify(id)},"error":{"code":-32601,"message":"method not found"}}\n`);
  }
}

function prompt(line: string, id: number | string, sessionId: string, receivedAt: number): void {
  const head = `{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"${sessionId}","update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"`;
  cancelled.delete(sessionId);
  const plan = parsePrompt(line);
  const finish = () => answer(id, { stopReason: cancelled.delete(sessionId) ? "cancelled" : "end_turn" });
  if (plan.hold) held.set(sessionId, finish);
  playAnswer({
    plan,
    receivedAt,
    write: (text) => send(`${head}${text}"}}}}\n`),
    end: finish,
    stopped: () => cancelled.has(sessionId),
    burst: 16,
  });
}

function cancel(sessionId: string): void {
  cancelled.add(sessionId);
  held.get(sessionId)?.();
  held.delete(sessionId);
}

function answer(id: number | string | undefined, result: object): void {
  if (id !== undefined) send(`{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":${JSON.stringify(result)}}\n`);
}

/** The pipe blocks while its reader is slow, which is all the flow control that is needed. */
function send(text: string): undefined {
  writeSync(standardOutput, text);
}
