// The Agent Client Protocol with one agent process. Its words and types are the SDK's; the messages are read and written here: the SDK validates
// each notification in full, prints the kinds that it does not know, and brings a message through six promises and two streams.
import { type ClientContext, methods, RequestError } from "@agentclientprotocol/sdk/unstable";
import type { Readable, Writable } from "node:stream";
import { createCalls } from "./calls.ts";
import { createFraming, type Frame } from "./framing.ts";

export interface AcpConnectionOptions {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly lineBytesMax: number;
  /** A line over the limit was thrown away: whatever the agent said with it is lost. */
  readonly onOversize: () => void;
  /** Every notification that is none of ACP's own, whatever session it is for. */
  readonly onVendorNotification: (method: string, params: Frame) => void;
}

/** Told about one session. Called while the agent's output is read: returns at once. */
export interface SessionListener {
  /** The `update` of a `session/update`. */
  update(update: Frame): void;
  /** A vendor's notification that names the session. */
  vendor(method: string, params: Frame): void;
  /** Whether a call of a tool, for which the agent asks, is permitted. Absent: none is. */
  permits?(toolCall: Frame): boolean;
}

export interface AcpConnection {
  readonly request: ClientContext["request"];
  readonly notify: ClientContext["notify"];
  /** Hears a session's notifications until it is disposed. Those that nobody hears are counted. */
  listen(sessionId: string, listener: SessionListener): Disposable;
  /** Leaves what the agent says unread. */
  pause(): void;
  resume(): void;
  readonly paused: boolean;
  /** Rejects what is pending, and every later call, with `error`. */
  close(error: Error): void;
  readonly counts: ConnectionCounts;
}

export interface ConnectionCounts {
  /** Lines that were no JSON object. */
  readonly skippedLines: number;
  /** Notifications for sessions that are over, and answers to nothing. */
  readonly strayFrames: number;
}

/** An agent that asks faster than it reads our answers is not read further until it has taken some. */
const openRequestsMax = 64;

export function connectAcp(options: AcpConnectionOptions): AcpConnection {
  const listeners = new Map<string, SessionListener>();
  let openRequests = 0;
  let paused = false;
  let strayFrames = 0;

  const framing = createFraming({
    ...options,
    onFrame(frame) {
      // Once it is closed, nobody wants what is still in the pipe.
      if (calls.closed) return;
      const { method } = frame;
      if (typeof method !== "string") {
        if (!calls.answer(frame)) strayFrames += 1;
        return;
      }
      const params = isObject(frame["params"]) ? frame["params"] : {};
      if ("id" in frame) void respond(frame["id"], method, params);
      else notified(method, params);
    },
  });
  const calls = createCalls((message) => void framing.send(message));
  const throttle = () => {
    if (paused || openRequests > openRequestsMax) framing.pause();
    else framing.resume();
  };
  const notified = (method: string, params: Frame) => {
    const listener = listeners.get(String(params["sessionId"]));
    if (method === methods.client.session.update) {
      if (listener && isObject(params["update"])) listener.update(params["update"]);
      else strayFrames += 1;
      return;
    }
    listener?.vendor(method, params);
    options.onVendorNotification(method, params);
  };
  /** The one thing that an agent may ask for is a permission. */
  const answerTo = (method: string, params: Frame): object => {
    if (method !== methods.client.session.requestPermission)
      return { error: plain(RequestError.methodNotFound(method)) };
    const { sessionId, toolCall, options: choices } = params;
    if (typeof sessionId !== "string" || !isObject(toolCall) || !Array.isArray(choices)) {
      return { error: plain(RequestError.invalidParams()) };
    }
    const permitted = listeners.get(sessionId)?.permits?.(toolCall) === true;
    return { result: { outcome: choose(objectsOf(choices), permitted ? "allow_once" : "reject_once") } };
  };
  const respond = async (id: unknown, method: string, params: Frame) => {
    openRequests += 1;
    throttle();
    await framing.send({ jsonrpc: "2.0", id, ...answerTo(method, params) });
    openRequests -= 1;
    throttle();
  };

  return {
    // What an agent answers is typed as the protocol has it, and not checked: whoever uses it looks.
    request: calls.request as ClientContext["request"],
    async notify(method: string, params?: unknown) {
      if (calls.closed) throw calls.closed;
      await framing.send({ jsonrpc: "2.0", method, params });
    },
    listen(sessionId, listener) {
      listeners.set(sessionId, listener);
      return { [Symbol.dispose]: () => void listeners.delete(sessionId) };
    },
    pause() {
      paused = true;
      throttle();
    },
    resume() {
      paused = false;
      throttle();
    },
    get paused() {
      return paused;
    },
    close: (error) => calls.close(error),
    get counts() {
      return { skippedLines: framing.skippedLines, strayFrames };
    },
  };
}

type Choice = { outcome: "selected"; optionId: string } | { outcome: "cancelled" };

/** Nobody is there to ask, so nothing is permitted for longer than once; what cannot be answered is not permitted. */
function choose(options: readonly Frame[], wanted: "allow_once" | "reject_once"): Choice {
  const optionId = options.find(({ kind }) => kind === wanted)?.["optionId"];
  return typeof optionId === "string" ? { outcome: "selected", optionId } : { outcome: "cancelled" };
}

function plain({ code, message, data }: RequestError): object {
  return { code, message, ...(data === undefined ? {} : { data }) };
}

export function isObject(value: unknown): value is Frame {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The objects of a list that an agent sent. */
export function objectsOf(value: unknown): readonly Frame[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}
