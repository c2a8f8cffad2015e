// One agent that is ready for prompts: its process, its connection, and its sessions.
import { type ContentBlock, type InitializeResponse, type McpServer, methods } from "@agentclientprotocol/sdk/unstable";
import { mkdir, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import { type AcpConnection, connectAcp, isObject } from "./acp-connection.ts";
import { type AgentProcess, startAgentProcess } from "../process/agent-process.ts";
import type { WorkerSettings } from "../config.ts";
import { settlesWithin, within } from "./deadline.ts";
import type { Frame } from "./framing.ts";
import type { AgentProfile } from "../profiles/profile.ts";
import type { Reaper } from "../process/reaper.ts";
import { asAgentError, complaintOf, crash, late, withComplaints } from "./agent-errors.ts";
import { shakeHands } from "./handshake.ts";
import { enterMode } from "./session-mode.ts";
import { chooseModel, confirmModel } from "./session-model.ts";

export interface AgentOptions {
  readonly profile: AgentProfile;
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** Values that must not be shown. */
  readonly secrets: readonly string[];
  /** An empty folder for the process and its sessions; removed when it stops. */
  readonly directory: string;
  readonly tag: string;
  readonly version: string;
  readonly config: WorkerSettings;
  readonly clock: Clock;
  readonly reaper: Reaper;
  /** Aborted when the agent is not wanted any more: it ends at once, starting or not. */
  readonly signal: AbortSignal;
}

/** What a session begins with. */
export interface SessionOptions {
  readonly mcpServers?: readonly McpServer[];
  /** For agents that take one. */
  readonly systemPrompt?: readonly ContentBlock[];
}

/** A session, for a prompt or for a conversation. */
export interface AgentSession {
  /** This, the directory and the answer change when the session is renewed. */
  id: string;
  directory: string;
  /** What session/new answered. */
  opened: Frame;
  /** What it began with. */
  readonly begin: SessionOptions;
  /** Whether a prompt was sent to it. */
  used: boolean;
  /** What the agent said that the session has cost so far, in thousandths of a credit. */
  reportedMillicredits: number;
  /** The model that was chosen for it, by the agent's name. */
  model: string | undefined;
}

export interface Agent {
  readonly pid: number | undefined;
  readonly profile: AgentProfile;
  readonly connection: AcpConnection;
  readonly takesImages: boolean;
  /** Whether it takes MCP servers over HTTP. */
  readonly takesTools: boolean;
  /** Whether it takes instructions apart from the prompt. */
  readonly takesSystemPrompt: boolean;
  /** Aborted when the agent can no longer be used; the reason is a DrawbridgeError. */
  readonly ended: AbortSignal;
  /** Whether its process ended by itself. */
  readonly crashed: boolean;
  /** Opens a session for a model. One at a time. Any failure ends the agent. */
  openSession(model: string, options?: SessionOptions): Promise<AgentSession>;
  /** Another session in place of one that the agent does not know any more. */
  renewSession(session: AgentSession, model: string): Promise<void>;
  /** Makes sure that a session has this model, where the agent lets one choose. */
  useModel(session: AgentSession, model: string): Promise<void>;
  /** Makes the agent forget a session, and removes its folder. Fails only if the folder cannot be removed. */
  closeSession(session: AgentSession): Promise<void>;
  /** Told when a line over the limit was thrown away. */
  onOversize(listener: () => void): void;
  /** The error for a request that the agent failed. `since`: a mark in its standard error, which may explain more. */
  errorOf(error: unknown, since: number): DrawbridgeError;
  /** What standard error since the mark says about a failure; undefined: nothing that is known. */
  complaintSince(mark: number): DrawbridgeError | undefined;
  readonly stderrPosition: number;
  /** Ends the process and everything that it started. */
  stop(): Promise<void>;
}

const closeSessionMs = 2_000;

/** Starts the process and shakes hands. Throws a DrawbridgeError when that fails, with nothing left behind. */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  await mkdir(options.directory, { recursive: true, mode: 0o700 });
  const process = startAgentProcess({
    ...options,
    terminateGraceMs: options.config.terminate_grace,
    stderrBytesMax: options.config.stderr_limit,
  });
  const ended = new AbortController();
  let onOversize: () => void = () => {};
  let cleaned: Promise<void> = Promise.resolve();
  const clean = async () => {
    await process.stop();
    await rm(options.directory, { recursive: true, force: true, maxRetries: 3 });
  };
  const end = (error: DrawbridgeError) => {
    if (ended.signal.aborted) return;
    // First, since whoever hears of the end calls stop() and waits for this promise.
    cleaned = clean();
    cleaned.catch(() => {});
    ended.abort(error);
    connection.close(error);
  };
  const connection = connectAcp({
    stdin: process.stdin,
    stdout: process.stdout,
    lineBytesMax: options.config.line_limit,
    onOversize: () => onOversize(),
    onVendorNotification(method, params) {
      const complaint = options.profile.complains?.(method, params);
      if (complaint !== undefined) process.note(complaint);
      const why = options.profile.refuses?.(method, params);
      if (why) end(new DrawbridgeError("AGENT_ERROR", `${why}.`));
    },
  });
  const stop = () => {
    end(new DrawbridgeError("AGENT_CRASHED", "The agent process was stopped."));
    return cleaned;
  };
  let crashed = false;
  void process.ended.then((how) => {
    crashed = !ended.signal.aborted;
    end(crash(how, process, options));
  });
  options.signal.addEventListener("abort", () => void stop(), { once: true, signal: ended.signal });
  if (options.signal.aborted) void stop();

  try {
    const greeting = await shakeHands(options, process, connection);
    const listen = (listener: () => void) => void (onOversize = listener);
    const hasCrashed = () => crashed;
    return createAgent(options, { process, connection, greeting, ended: ended.signal, hasCrashed, end, stop, listen });
  } catch (error) {
    await stop();
    throw asAgentError(error, process, options, 0);
  }
}

interface Parts {
  readonly process: AgentProcess;
  readonly connection: AcpConnection;
  readonly greeting: InitializeResponse;
  readonly ended: AbortSignal;
  readonly hasCrashed: () => boolean;
  readonly end: (error: DrawbridgeError) => void;
  readonly stop: () => Promise<void>;
  readonly listen: (onOversize: () => void) => void;
}

function createAgent(options: AgentOptions, parts: Parts): Agent {
  const { profile, config, clock } = options;
  const { process, connection, greeting } = parts;
  const capabilities = greeting.agentCapabilities;
  let sessions = 0;
  const errorOf = (error: unknown, since: number) => asAgentError(error, process, options, since);
  const systemPromptMode = systemPromptModeOf(capabilities?.sessionCapabilities);
  const openSession = async (model: string, begin: SessionOptions): Promise<AgentSession> => {
    const directory = join(options.directory, `session-${sessions++}`);
    await mkdir(directory, { mode: 0o700 });
    const opened: unknown = await connection.request(methods.agent.session.new, {
      cwd: directory,
      mcpServers: [...(begin.mcpServers ?? [])],
      ...(begin.systemPrompt && systemPromptMode
        ? { systemPrompt: { mode: systemPromptMode, content: [...begin.systemPrompt] } }
        : {}),
      ...(profile.sessionMeta ? { _meta: profile.sessionMeta } : {}),
    });
    if (!isObject(opened) || typeof opened["sessionId"] !== "string") {
      throw new DrawbridgeError("AGENT_PROTOCOL", "The agent opened a session without naming it.");
    }
    await enterMode(connection, opened["sessionId"], opened, profile);
    if (profile.modelAtStart) await confirmModel(connection, opened["sessionId"], opened, model);
    const session: AgentSession = {
      id: opened["sessionId"],
      directory,
      opened,
      begin,
      used: false,
      reportedMillicredits: 0,
      model: undefined,
    };
    await useModel(session, model);
    return session;
  };
  const useModel = async (session: AgentSession, model: string) => {
    if (profile.modelAtStart || session.model === model) return;
    await chooseModel(connection, session.id, session.opened, model, profile.modelRequired === true);
    session.model = model;
  };
  let opening: Promise<unknown> = Promise.resolve();
  /** One at a time: there are agents that crash when two are opened at once. */
  const open = (model: string, begin: SessionOptions): Promise<AgentSession> => {
    const opened = opening.then(() => openInTime(model, begin));
    opening = opened.catch(() => {});
    return opened;
  };
  /** Any failure ends the agent. */
  const openInTime = async (model: string, begin: SessionOptions): Promise<AgentSession> => {
    const mark = process.stderrPosition;
    try {
      return await within(
        withComplaints(openSession(model, begin), process, options),
        config.session_timeout,
        clock,
        () => late("open a session", config.session_timeout),
      );
    } catch (error) {
      const failure = parts.ended.aborted ? (parts.ended.reason as DrawbridgeError) : errorOf(error, mark);
      parts.end(failure);
      throw failure;
    }
  };
  return {
    pid: process.pid,
    profile,
    connection,
    takesImages: capabilities?.promptCapabilities?.image === true,
    takesTools: capabilities?.mcpCapabilities?.http === true,
    takesSystemPrompt: systemPromptMode !== undefined,
    ended: parts.ended,
    get crashed() {
      return parts.hasCrashed();
    },
    openSession: (model, begin = {}) => open(model, begin),
    async renewSession(session, model) {
      const lost = session.directory;
      const { id, directory, opened, model: chosen } = await open(model, session.begin);
      Object.assign(session, { id, directory, opened, model: chosen });
      await removeFolder(lost);
    },
    useModel,
    async closeSession(session) {
      const method = capabilities?.sessionCapabilities?.close ? methods.agent.session.close : profile.endSession;
      if (method && !parts.ended.aborted) {
        await settlesWithin(connection.request(method, { sessionId: session.id }), closeSessionMs, clock);
      }
      await removeFolder(session.directory);
    },
    onOversize: parts.listen,
    errorOf,
    complaintSince: (mark) => complaintOf(process, options, mark),
    get stderrPosition() {
      return process.stderrPosition;
    },
    stop: parts.stop,
  };
}

/** Instead of the agent's own instructions where it lets us, else in addition to them. */
function systemPromptModeOf(capabilities: unknown): "override" | "append" | undefined {
  const offered = isObject(capabilities) ? capabilities["systemPrompt"] : undefined;
  if (!isObject(offered)) return undefined;
  return isObject(offered["mode"]) && offered["mode"]["override"] ? "override" : "append";
}

/** Nearly always it is empty, and then one system call is enough. */
async function removeFolder(folder: string): Promise<void> {
  await rmdir(folder).catch(() => rm(folder, { recursive: true, force: true, maxRetries: 3 }));
}
