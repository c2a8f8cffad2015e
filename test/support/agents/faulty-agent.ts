// An ACP agent for tests and benchmarks that does what the prompt asks, faults included. It speaks the protocol by hand, so that it can
// break it.
//
// Instructions are a JSON object in the prompt's text: the LAST object that begins with {"do": counts, so a test puts it into the last user
// message and everything before it is ignored. A prompt without one is answered "ok". Fields:
//
//   do            what to do:
//                   "answer" (default)      `chunks` chunks, then end_turn
//                   "die"                   `chunks` chunks, then the process exits with `code` (default 1)
//                   "hang"                  `chunks` chunks, then nothing; answers a cancel
//                   "ignore_cancel"         `chunks` chunks, then nothing, whatever comes (SIGTERM too)
//                   "noise"                 an answer with lines between the chunks that are no JSON, and stray frames
//                   "long_line"             a line of `bytes` (default 3000000), then an answer
//                   "split_utf8"            an answer ("text", default with many-byte characters) written byte by byte
//                   "split_surrogates"      an answer whose chunks end inside of characters outside the basic plane
//                   "error"                 `chunks` chunks, then an error answer: `code` (default -32603), `message`, `data`
//                   "empty"                 end_turn without content or usage; `notify`: a vendor's notification before it, {method, params}
//                   "spawn"                 starts a grandchild in its own session that lives on, then an answer
//                   "permission"            asks for a permission, then answers with its outcome as text
//                   "environment"           answers with its environment and directory, as JSON
//                   "look"                  answers with what it can write, see in `folder`, and count of processes, as JSON
//                   "echo"                  answers with the prompt's text
//                   "history"               answers with the number of the session's prompts and the length of all of them
//                   "call"                  calls tools of the session's MCP server, asking for permission first: `calls`, a list of
//                                           {name, arguments}, at the same time, or with `one_by_one`; then answers with their results as JSON;
//                                           `text` is said before
//                   "instructions"          answers with the system prompt that the session was given, as JSON
//                   "tools"                 answers with the list of the MCP server's tools, as JSON
//                   "stderr"                writes `message` to standard error, then an answer
//                   "late"                  an answer, then the same answer again and more updates for the session
//                   "ask"                   sends `chunks` requests that nobody serves, then answers with how many were refused
//                   "grow"                  takes `bytes` of memory and keeps them, then an answer
//                   "forget"                forgets the session: "Session not found", this time and, with `always`, every time
//                   "hold_stdout"           starts a grandchild that holds standard output, then exits with `code`
//   cancel_error  a cancel is answered with this error's message instead of the stop reason
//   chunks        how many (default 3 for "answer", 0 for faults)
//   size          characters of a chunk (default 8), or `text`: the chunk itself
//   pause_ms      between chunks (default 0)
//   delay_ms      before the first chunk (default 0)
//   thoughts      chunks of reasoning before the text (default 0)
//   stop_reason   of the answer (default "end_turn")
//   corrected     the text of the next answer, if that is asked for because this one is not of the right form
//   usage         the answer's usage object; "none": no usage (default: none)
//   meta          the answer's _meta
//   credits       sent as _kiro.dev/metadata after the answer
//
// Command line:
//   --start-delay-ms N, --session-delay-ms N    before answering initialize, or session/new
//   --crash initialize|session                  with --once FILE: only where there is no such file yet
//   --fail-session CODE MESSAGE                 instead of a session
//   --protocol N                                the version that it speaks
//   --login-methods                             lists some, though none is needed
//   --deaf                                      once a session is open, standard input is not read any more
//   --notify METHOD                             a vendor's notification before each session
//   --no-close, --no-mcp                        session/close, or MCP over HTTP, is not advertised
//   --no-list                                   never asks which tools there are
//   --system-prompt append|override             taken apart from the prompt
//   --models a,b                                offered as a config option
//   --stderr TEXT                               at the start
//   --override FILE                             an instruction in place of the prompt's, while the file is there
//   --journal FILE                              a line with the time for each prompt
import { spawn } from "node:child_process";
import { appendFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { createToolClient, type ToolClient } from "./tool-client.ts";

interface Instruction {
  readonly do?: string;
  readonly chunks?: number;
  readonly size?: number;
  readonly text?: string;
  readonly pause_ms?: number;
  readonly delay_ms?: number;
  readonly thoughts?: number;
  readonly stop_reason?: string;
  readonly usage?: unknown;
  readonly meta?: unknown;
  readonly credits?: number;
  readonly code?: number;
  readonly message?: string;
  readonly data?: unknown;
  readonly bytes?: number;
  readonly always?: boolean;
  readonly cancel_error?: string;
  readonly folder?: string;
  readonly outside?: string;
  readonly calls?: readonly { readonly name: string; readonly arguments?: unknown }[];
  readonly one_by_one?: boolean;
  readonly corrected?: string;
  readonly notify?: { readonly method: string; readonly params?: Record<string, unknown> };
}

interface Incoming {
  readonly id?: number | string;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: unknown;
  readonly error?: unknown;
}

const args = process.argv.slice(2);
const option = (name: string): string | undefined => {
  const index = args.indexOf(`--${name}`);
  return index === -1 ? undefined : (args[index + 1] ?? "");
};

class Failure extends Error {
  readonly code: number;
  readonly data: unknown;
  constructor(code: number, message: string, data?: unknown) {
    super(message);
    this.code = code;
    this.data = data;
  }
}

/** What a session was told, and the tools that it may call. */
interface Memory {
  prompts: number;
  chars: number;
  /** What to say when it is told to correct its answer. */
  corrected: string | undefined;
  readonly instructions: unknown;
  readonly tools: ToolClient | undefined;
}

const memories = new Map<string, Memory>();
/** Sessions with the function that cancels their turn. */
const sessions = new Map<string, () => void>();
const permissions = new Map<number, (result: unknown) => void>();
let sessionCount = 0;
let requestCount = 1_000;
let forgotten = false;
/** What to do with the refusal of a request. */
const refusals = new Map<number, (error: unknown) => void>();
const ballast: Buffer[] = [];
let model = option("models")?.split(",")[0];

function writeRaw(text: string | Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    if (process.stdout.write(text)) resolve();
    else process.stdout.once("drain", resolve);
  });
}

function send(message: Record<string, unknown>): Promise<void> {
  return writeRaw(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
}

function chunk(sessionId: string, text: string, kind = "agent_message_chunk"): Promise<void> {
  const update = { sessionUpdate: kind, content: { type: "text", text } };
  return send({ method: "session/update", params: { sessionId, update } });
}

function instructionIn(text: string): Instruction {
  const start = text.lastIndexOf('{"do":');
  if (start === -1) return { do: "answer", chunks: 1, text: "ok" };
  for (let end = text.indexOf("}", start); end !== -1; end = text.indexOf("}", end + 1)) {
    try {
      return JSON.parse(text.slice(start, end + 1)) as Instruction;
    } catch {
      // The object has inner braces: it ends further on.
    }
  }
  throw new Failure(-32602, "the instruction is no JSON object");
}

function textOf(params: Record<string, unknown>): string {
  const blocks = (params["prompt"] ?? []) as { type: string; text?: string }[];
  return blocks.map((block) => block.text ?? `[${block.type}]`).join("");
}

function piece(instruction: Instruction, index: number): string {
  if (instruction.text !== undefined) return instruction.text;
  const word = `w${index} `;
  return word.repeat(Math.ceil((instruction.size ?? 8) / word.length)).slice(0, instruction.size ?? 8);
}

interface Turn {
  readonly sessionId: string;
  readonly instruction: Instruction;
  readonly text: string;
  readonly signal: AbortSignal;
}

async function say({ sessionId, instruction, signal }: Turn, fallback: number): Promise<void> {
  if (instruction.delay_ms) await pause(instruction.delay_ms, signal);
  for (let index = 0; index < (instruction.thoughts ?? 0); index++) {
    await chunk(sessionId, piece(instruction, index), "agent_thought_chunk");
  }
  for (let index = 0; index < (instruction.chunks ?? fallback) && !signal.aborted; index++) {
    await chunk(sessionId, piece(instruction, index));
    if (instruction.pause_ms) await pause(instruction.pause_ms, signal);
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => {});
}

function untilCancelled(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

async function askPermission(sessionId: string, about: Record<string, unknown>): Promise<unknown> {
  const id = requestCount++;
  const answered = new Promise<unknown>((resolve) => permissions.set(id, resolve));
  const options = [
    { optionId: "yes", name: "Allow", kind: "allow_once" },
    { optionId: "no", name: "Reject", kind: "reject_once" },
  ];
  const toolCall = { toolCallId: String(id), ...about };
  await send({ id, method: "session/request_permission", params: { sessionId, toolCall, options } });
  return await answered;
}

function canWrite(folder: string): boolean {
  try {
    writeFileSync(join(folder, "probe"), "");
    rmSync(join(folder, "probe"));
    return true;
  } catch {
    return false;
  }
}

const forever = new Promise<never>(() => {});

function spawnSurvivor(stdout: "ignore" | "inherit"): void {
  const child = spawn(process.execPath, ["-e", "process.on('SIGTERM', () => {}); setInterval(() => {}, 1000)"], {
    detached: true,
    stdio: ["ignore", stdout, "ignore"],
  });
  child.unref();
}

const actions: Record<string, (turn: Turn) => Promise<void>> = {
  answer: (turn) => say(turn, 3),
  async die(turn) {
    await say(turn, 0);
    process.exit(turn.instruction.code ?? 1);
  },
  async hang(turn) {
    await say(turn, 0);
    await untilCancelled(turn.signal);
  },
  async ignore_cancel(turn) {
    process.on("SIGTERM", () => {});
    await say({ ...turn, signal: new AbortController().signal }, 0);
    await forever;
  },
  async noise(turn) {
    await writeRaw('warning: this is no JSON\n\n{"half": \n[1,2,3]\n');
    await chunk("another session", "not for you");
    await send({ id: 424_242, result: {} });
    await send({
      method: "session/update",
      params: { sessionId: turn.sessionId, update: { sessionUpdate: "unheard_of" } },
    });
    await send({ method: "_vendor/hello", params: {} });
    await say(turn, 3);
  },
  async long_line(turn) {
    await chunk(turn.sessionId, "x".repeat(turn.instruction.bytes ?? 3_000_000));
    await say(turn, 3);
  },
  async split_utf8(turn) {
    const text = turn.instruction.text ?? "naïve — 漢字 😀";
    const update = { sessionUpdate: "agent_message_chunk", content: { type: "text", text } };
    const params = { sessionId: turn.sessionId, update };
    const line = Buffer.from(`${JSON.stringify({ jsonrpc: "2.0", method: "session/update", params })}\n`);
    for (let index = 0; index < line.length; index++) {
      await writeRaw(line.subarray(index, index + 1));
      if (index % 16 === 0) await delay(1);
    }
  },
  async split_surrogates(turn) {
    for (const unit of "a😀b😀c".split("")) await chunk(turn.sessionId, unit);
  },
  async error(turn) {
    await say(turn, 0);
    const { code, message, data } = turn.instruction;
    throw new Failure(code ?? -32603, message ?? "Internal error", data);
  },
  async empty({ sessionId, instruction: { notify } }) {
    if (notify) await send({ method: notify.method, params: { sessionId, ...notify.params } });
  },
  async spawn(turn) {
    spawnSurvivor("ignore");
    await say(turn, 3);
  },
  async forget(turn) {
    await say(turn, 0);
    if (forgotten && !turn.instruction.always) return say(turn, 3);
    forgotten = true;
    throw new Failure(-32002, "Session not found");
  },
  async hold_stdout(turn) {
    await say(turn, 0);
    spawnSurvivor("inherit");
    process.exit(turn.instruction.code ?? 1);
  },
  async permission({ sessionId }) {
    await chunk(sessionId, JSON.stringify(await askPermission(sessionId, { title: "rm -rf" })));
  },
  async history({ sessionId }) {
    const { prompts, chars } = memories.get(sessionId) ?? { prompts: 0, chars: 0 };
    await chunk(sessionId, JSON.stringify({ prompts, chars }));
  },
  async instructions({ sessionId }) {
    await chunk(sessionId, JSON.stringify(memories.get(sessionId)?.instructions));
  },
  async tools({ sessionId }) {
    await chunk(sessionId, JSON.stringify(memories.get(sessionId)?.tools?.offered ?? null));
  },
  async call({ sessionId, instruction, signal }) {
    const { calls = [], one_by_one, text } = instruction;
    const tools = memories.get(sessionId)?.tools;
    if (!tools) throw new Failure(-32603, "the session has no tools");
    if (text !== undefined) await chunk(sessionId, text);
    const results: unknown[] = [];
    const call = async ({ name, arguments: given }: (typeof calls)[number], index: number) => {
      const permission = await askPermission(sessionId, { title: `${tools.server}_${name}`, kind: "other" });
      results[index] = JSON.stringify(permission).includes('"yes"')
        ? await tools.call(name, given ?? {}, signal)
        : permission;
    };
    if (one_by_one) for (const [index, each] of calls.entries()) await call(each, index);
    else await Promise.all(calls.map(call));
    if (!signal.aborted) await chunk(sessionId, JSON.stringify(results));
  },
  async environment(turn) {
    await chunk(turn.sessionId, JSON.stringify({ env: process.env, cwd: process.cwd(), model }));
  },
  async ask(turn) {
    const answers = Array.from({ length: turn.instruction.chunks ?? 1 }, async () => {
      const id = requestCount++;
      const refused = new Promise<unknown>((resolve) => refusals.set(id, resolve));
      await send({ id, method: "fs/read_text_file", params: { sessionId: turn.sessionId, path: "/etc/passwd" } });
      return await refused;
    });
    const errors = await Promise.all(answers);
    const count = errors.filter((error) => (error as { code?: number } | undefined)?.code === -32601).length;
    await chunk(turn.sessionId, `${count} refused`);
  },
  async grow(turn) {
    ballast.push(Buffer.alloc(turn.instruction.bytes ?? 50_000_000, 1));
    await say(turn, 3);
  },
  async look({ sessionId, instruction }) {
    const { folder = "", outside = "" } = instruction;
    const places = {
      home: process.env["HOME"],
      cwd: process.cwd(),
      tmp: process.env["TMPDIR"],
      outside,
      worker: folder,
    };
    const written = Object.fromEntries(Object.entries(places).map(([name, place]) => [name, canWrite(place ?? "")]));
    const processes = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).length;
    await chunk(sessionId, JSON.stringify({ written, listed: readdirSync(folder).sort(), processes }));
  },
  async echo(turn) {
    await chunk(turn.sessionId, turn.text);
  },
  async stderr(turn) {
    process.stderr.write(`${turn.instruction.message ?? "something"}\n`);
    await delay(20);
    await say(turn, 3);
  },
  late: (turn) => say(turn, 3),
};

/** The instruction in the file of --override, if there is one now. */
function overriding(): Instruction | undefined {
  const file = option("override");
  if (file === undefined || !existsSync(file)) return undefined;
  return JSON.parse(readFileSync(file, "utf8")) as Instruction;
}

async function prompt(params: Record<string, unknown>): Promise<Record<string, unknown>> {
  const sessionId = String(params["sessionId"]);
  if (!sessions.has(sessionId)) throw new Failure(-32002, "Session not found");
  const text = textOf(params);
  const memory = memories.get(sessionId);
  const journal = option("journal");
  if (journal !== undefined) appendFileSync(journal, `${Date.now()}\n`);
  const instruction = {
    ...(overriding() ?? instructionIn(text)),
    ...(text.startsWith("Your last answer") ? { text: memory?.corrected } : {}),
  };
  if (memory) {
    memory.prompts += 1;
    memory.chars += text.length;
    memory.corrected = instruction.corrected;
  }
  const cancel = new AbortController();
  sessions.set(sessionId, () => cancel.abort());
  const action = actions[instruction.do ?? "answer"];
  if (!action) throw new Failure(-32602, `unknown instruction "${instruction.do}"`);
  await action({ sessionId, instruction, text, signal: cancel.signal });
  if (cancel.signal.aborted && instruction.cancel_error) throw new Failure(-32603, instruction.cancel_error);
  if (cancel.signal.aborted) return { stopReason: "cancelled" };
  if (instruction.do === "late") {
    setTimeout(() => {
      void chunk(sessionId, "too late");
    }, 5);
  }
  if (instruction.credits !== undefined) {
    const meteringUsage = [{ value: instruction.credits, unit: "credit", unitPlural: "credits" }];
    setTimeout(() => {
      void send({
        method: "_kiro.dev/metadata",
        params: { sessionId: "another session", meteringUsage: [{ value: 99, unit: "credit" }] },
      });
      void send({ method: "_kiro.dev/metadata", params: { sessionId, meteringUsage } });
    }, 20);
  }
  const { usage, meta } = instruction;
  return {
    stopReason: instruction.stop_reason ?? "end_turn",
    ...(usage === undefined || usage === "none" ? {} : { usage }),
    ...(meta === undefined ? {} : { _meta: meta }),
  };
}

function configOptions(): Record<string, unknown> {
  const models = option("models")?.split(",");
  if (!models) return {};
  const options = models.map((value) => ({ value, name: value.toUpperCase() }));
  return {
    configOptions: [{ id: "llm", name: "Model", category: "model", type: "select", currentValue: model, options }],
  };
}

function crashesAt(place: string): boolean {
  if (option("crash") !== place) return false;
  const once = option("once");
  if (once === undefined) return true;
  if (existsSync(once)) return false;
  writeFileSync(once, "");
  return true;
}

const methods: Record<string, (params: Record<string, unknown>) => Promise<Record<string, unknown>>> = {
  async initialize() {
    if (crashesAt("initialize")) process.exit(3);
    await delay(Number(option("start-delay-ms") ?? 0));
    const systemPrompt = option("system-prompt");
    const sessionCapabilities = {
      ...(args.includes("--no-close") ? {} : { close: {} }),
      ...(systemPrompt ? { systemPrompt: systemPrompt === "override" ? { mode: { override: {} } } : {} } : {}),
    };
    const mcpCapabilities = { http: !args.includes("--no-mcp") };
    const authMethods = args.includes("--login-methods") ? [{ id: "browser", name: "Log in with a browser" }] : [];
    const agentCapabilities = { sessionCapabilities, mcpCapabilities };
    return { protocolVersion: Number(option("protocol") ?? 1), agentCapabilities, authMethods };
  },
  async "session/new"(params) {
    if (crashesAt("session")) process.exit(4);
    await delay(Number(option("session-delay-ms") ?? 0));
    const notification = option("notify");
    if (notification !== undefined) await send({ method: notification, params: { fallbackAgent: "default" } });
    const code = option("fail-session");
    if (code !== undefined) throw new Failure(Number(code), args[args.indexOf("--fail-session") + 2] ?? "failed");
    const sessionId = `session-${++sessionCount}`;
    sessions.set(sessionId, () => {});
    if (args.includes("--deaf")) {
      process.stdin.pause();
      setInterval(() => {}, 1_000);
    }
    const [server] = (params["mcpServers"] ?? []) as { name: string; url: string }[];
    const tools = server ? createToolClient(server) : undefined;
    // As real agents do, after the answer.
    if (!args.includes("--no-list")) setTimeout(() => void tools?.connect(), 5);
    memories.set(sessionId, {
      prompts: 0,
      chars: 0,
      corrected: undefined,
      instructions: params["systemPrompt"] ?? null,
      tools,
    });
    return { sessionId, ...configOptions() };
  },
  async "session/close"(params) {
    sessions.delete(String(params["sessionId"]));
    memories.delete(String(params["sessionId"]));
    return {};
  },
  async "session/set_config_option"(params) {
    model = String(params["value"]);
    return configOptions();
  },
  "session/prompt": prompt,
};

async function serve({ id, method, params, result, error: refusal }: Incoming): Promise<void> {
  if (method === undefined) {
    refusals.get(Number(id))?.(refusal);
    return permissions.get(Number(id))?.(result);
  }
  if (method === "session/cancel") return sessions.get(String(params?.["sessionId"]))?.();
  if (id === undefined) return;
  try {
    const handler = methods[method];
    if (!handler) throw new Failure(-32601, "Method not found");
    const answer = { id, result: await handler(params ?? {}) };
    await send(answer);
    if (method === "session/prompt" && textOf(params ?? {}).includes('"do":"late"')) await send(answer);
  } catch (error) {
    const { code, data, message } = error instanceof Failure ? error : new Failure(-32603, String(error));
    await send({ id, error: { code, message, ...(data === undefined ? {} : { data }) } });
  }
}

const complaint = option("stderr");
if (complaint !== undefined) process.stderr.write(`${complaint}\n`);
createInterface({ input: process.stdin })
  .on("line", (line) => void serve(JSON.parse(line) as Incoming))
  .on("close", () => process.exit(0));
