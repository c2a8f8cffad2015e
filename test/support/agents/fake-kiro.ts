// A stand-in for kiro-cli with what is known of its two engines. What it was started with and asked for goes to the file FAKE_KIRO_LOG, a
// JSON line each. Behaviour is set by FAKE_KIRO, words apart from each other by blanks:
//
//   logged-out       whoami says so; acp waits for ever, as without a login
//   silent-login     whoami waits for ever
//   fallback         the agent is not found and another one runs
//   switched         after the session was opened the agent is switched
//   switched-at-once the same, told in one write with the session
//   other-model      sessions say that they run another model, and setting one changes nothing
//   late-metadata    the credits come after the answer, those of another session first
//   no-metadata      no credits at all
import { appendFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

const behaviour = new Set((process.env["FAKE_KIRO"] ?? "").split(" "));
const args = process.argv.slice(2);
const option = (name: string) => (args.includes(name) ? args[args.indexOf(name) + 1] : undefined);
const v3 = option("--agent-engine") === "v3";
const namespace = v3 ? "_kiro" : "_kiro.dev";
const models = ["auto", "claude-a", "claude-b"];

function note(what: string, value: unknown): void {
  const file = process.env["FAKE_KIRO_LOG"];
  if (file) appendFileSync(file, `${JSON.stringify({ [what]: value })}\n`);
}

function send(...messages: object[]): void {
  process.stdout.write(messages.map((message) => `${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`).join(""));
}

function vendorMessage(name: string, params: object): object {
  return { method: `${namespace}/${name}`, params };
}

function vendor(name: string, params: object): void {
  send(vendorMessage(name, params));
}

function whoami(): void {
  if (behaviour.has("silent-login")) setInterval(() => {}, 1_000);
  else if (behaviour.has("logged-out")) process.stderr.write("error: not logged in\n", () => process.exit(1));
  else process.stdout.write('{"accountType":"BuilderId","email":"a@example.com"}\n');
}

/** Engine v2 has the agent of its arguments; v3 is told in the session. */
function agents(): { currentModeId: string; availableModes: { id: string }[] } {
  const file = (home: string) => join(home, "agents", "drawbridge.json");
  const home = v3 ? join(process.env["HOME"] ?? "", ".kiro") : (process.env["KIRO_HOME"] ?? "");
  const known = existsSync(file(home)) && !behaviour.has("fallback");
  const current = !v3 && known ? (option("--agent") ?? "kiro_default") : "kiro_default";
  return {
    currentModeId: current,
    availableModes: ["kiro_default", ...(known ? ["drawbridge"] : [])].map((id) => ({ id })),
  };
}

let count = 0;
let model = behaviour.has("other-model") ? "claude-b" : (option("--model") ?? "auto");

function opened(sessionId: string): object {
  const modes = agents();
  if (v3) {
    const options = models.map((value) => ({ value, name: value }));
    return { sessionId, modes, configOptions: [{ id: "model", category: "model", currentValue: model, options }] };
  }
  const availableModels = models.map((modelId) => ({ modelId, name: modelId }));
  return { sessionId, modes, models: { currentModelId: model, availableModels } };
}

function prompt(id: unknown, sessionId: string): void {
  const text = JSON.stringify({ model, home: process.env["HOME"], kiroHome: process.env["KIRO_HOME"] });
  vendor("metadata", { sessionId });
  send({
    method: "session/update",
    params: { sessionId, update: { sessionUpdate: "agent_message_chunk", content: { type: "text", text } } },
  });
  const metering = (credits: number) => [{ value: credits, unit: "credit", unitPlural: "credits" }];
  const metadata = () => {
    vendor("metadata", { sessionId: "a-subagent", meteringUsage: metering(99) });
    if (behaviour.has("no-metadata")) return;
    vendor("metadata", { sessionId, contextUsagePercentage: 2, meteringUsage: metering(0.25), turnDurationMs: 5 });
  };
  if (!behaviour.has("late-metadata")) metadata();
  send({ id, result: { stopReason: "end_turn" } });
  if (behaviour.has("late-metadata")) setTimeout(metadata, 50);
}

function serve({ id, method, params = {} }: { id?: unknown; method?: string; params?: Record<string, unknown> }): void {
  note("method", method);
  const sessionId = String(params["sessionId"]);
  const answer = (result: object) => send({ id, result });
  const refuse = () => send({ id, error: { code: -32601, message: "Method not found" } });
  if (method === "initialize") {
    answer({ protocolVersion: 1, agentCapabilities: { loadSession: true, promptCapabilities: { image: true } } });
  } else if (method === "session/new") {
    const session = `session-${++count}`;
    if (!v3 && behaviour.has("fallback")) {
      vendor("agent/not_found", { sessionId: session, requestedAgent: "drawbridge", fallbackAgent: "kiro_default" });
    }
    const switched = vendorMessage("agent/switched", { sessionId: session, agentName: "kiro_default" });
    const answered = { id, result: opened(session) };
    if (behaviour.has("switched-at-once")) return send(answered, switched);
    send(answered);
    vendor("metadata", { sessionId: session, contextUsagePercentage: 1 });
    if (behaviour.has("switched")) send(switched);
  } else if (method === "session/set_mode") {
    note("mode", params["modeId"]);
    answer({});
  } else if (method === "session/set_model") {
    if (v3) return refuse();
    if (!behaviour.has("other-model")) model = String(params["modelId"]);
    answer({ models: { currentModelId: model } });
  } else if (method === "session/set_config_option") {
    if (!v3) return refuse();
    if (!behaviour.has("other-model")) model = String(params["value"]);
    answer({ configOptions: [{ id: "model", category: "model", currentValue: model, options: [] }] });
  } else if (method === "session/prompt") {
    prompt(id, sessionId);
  } else if (method === "_kiro.dev/session/terminate" || method === "_kiro/session/delete") {
    note("forgotten", sessionId);
    answer({});
  } else if (id !== undefined) {
    refuse();
  }
}

note("arguments", args);
if (args[0] === "whoami") {
  whoami();
} else if (v3 && args.some((arg) => ["--agent", "--model", "--effort"].includes(arg))) {
  process.stderr.write("error: unexpected argument for engine v3\n", () => process.exit(2));
} else if (behaviour.has("logged-out")) {
  setInterval(() => {}, 1_000);
} else {
  createInterface({ input: process.stdin })
    .on("line", (line) => serve(JSON.parse(line) as Parameters<typeof serve>[0]))
    .on("close", () => process.exit(0));
}
