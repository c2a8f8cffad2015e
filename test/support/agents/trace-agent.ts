// Plays the traces of test/support/traces: how an agent tells of its failures. Usage: trace-agent.ts FILE [NAME]. The trace NAME is played
// when a session is opened; others when a prompt contains {"do":"trace","trace":"ITS NAME"}.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

interface Trace {
  readonly stderr?: string;
  readonly vendor?: readonly { readonly method: string; readonly params: object }[];
  readonly updates?: readonly object[];
  readonly result?: object;
  readonly error?: object;
  readonly exit?: number;
}

interface Incoming {
  readonly id?: number;
  readonly method?: string;
  readonly params?: { readonly prompt?: readonly { readonly text?: string }[] };
}

const [file = "", atSession] = process.argv.slice(2);
const traces = JSON.parse(readFileSync(file, "utf8")) as Record<string, Trace>;
const sessionId = "session-1";

function send(message: object): void {
  process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
}

function play(id: unknown, name: string): void {
  const trace = traces[name];
  if (!trace) throw new Error(`there is no trace "${name}"`);
  const answer = () => {
    for (const { method, params } of trace.vendor ?? []) send({ method, params: { sessionId, ...params } });
    for (const update of trace.updates ?? []) send({ method: "session/update", params: { sessionId, update } });
    if (trace.exit !== undefined) process.exit(trace.exit);
    else if (trace.error) send({ id, error: trace.error });
    else if (trace.result) send({ id, result: { stopReason: "end_turn", ...trace.result } });
  };
  // The answer comes after what standard error says, as agents do when they fail.
  if (trace.stderr === undefined) answer();
  else process.stderr.write(trace.stderr, () => setTimeout(answer, 20));
}

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const { id, method, params } = JSON.parse(line) as Incoming;
    if (method === "initialize") {
      send({ id, result: { protocolVersion: 1, agentCapabilities: { sessionCapabilities: { close: {} } } } });
    } else if (method === "session/new") {
      if (atSession === undefined) send({ id, result: { sessionId } });
      else play(id, atSession);
    } else if (method === "session/prompt") {
      const text = (params?.prompt ?? []).map((block) => block.text ?? "").join("");
      play(id, (JSON.parse(text) as { readonly trace: string }).trace);
    } else if (id !== undefined) {
      send({ id, result: {} });
    }
  })
  .on("close", () => process.exit(0));
