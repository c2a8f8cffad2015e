// The Agent Client Protocol with one agent process. The SDK speaks for our requests and the agent's; notifications, which are nearly all
// of the traffic, are read here: the SDK would validate each of them in full, and print the kinds that it does not know.
import { type AnyMessage, client, type ClientContext, methods, RequestError } from "@agentclientprotocol/sdk/unstable";
import type { Readable, Writable } from "node:stream";
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
  const awaited = new Set<unknown>();
  let openRequests = 0;
  let paused = false;
  let strayFrames = 0;
  let deliver: (message: AnyMessage) => void = () => {};

  const onNotification = (method: string, params: Frame) => {
    const listener = listeners.get(String(params["sessionId"]));
    if (method === methods.client.session.update) {
      if (listener && isObject(params["update"])) listener.update(params["update"]);
      else strayFrames += 1;
      return;
    }
    listener?.vendor(method, params);
    options.onVendorNotification(method, params);
  };
  const framing = createFraming({
    ...options,
    onFrame(frame) {
      if (typeof frame["method"] === "string") {
        const params = isObject(frame["params"]) ? frame["params"] : {};
        if (!("id" in frame)) return onNotification(frame["method"], params);
        openRequests += 1;
        throttle();
      } else if (!awaited.delete(frame["id"])) {
        strayFrames += 1;
        return;
      }
      deliver(frame as unknown as AnyMessage);
    },
  });
  const throttle = () => {
    if (paused || openRequests > openRequestsMax) framing.pause();
    else framing.resume();
  };
  const readable = new ReadableStream<AnyMessage>({
    start: (controller) => void (deliver = (message) => controller.enqueue(message)),
    cancel: () => void (deliver = () => {}),
  });
  const writable = new WritableStream<AnyMessage>({
    async write(message) {
      if ("method" in message && "id" in message) awaited.add(message.id);
      await framing.send(message);
      if ("method" in message) return;
      openRequests -= 1;
      throttle();
    },
  });
  const connection = client({ name: "drawbridge" })
    .onRequest(methods.client.session.requestPermission, ({ params }) => {
      const permitted = listeners.get(params.sessionId)?.permits?.(params.toolCall as unknown as Frame) === true;
      return { outcome: choose(params.options, permitted ? "allow_once" : "reject_once") };
    })
    .onRequest("*", ({ method }) => {
      throw RequestError.methodNotFound(method);
    })
    .connect({ readable, writable });

  return {
    request: connection.agent.request.bind(connection.agent),
    notify: connection.agent.notify.bind(connection.agent),
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
    close: (error) => connection.close(error),
    get counts() {
      return { skippedLines: framing.skippedLines, strayFrames };
    },
  };
}

type Choice = { outcome: "selected"; optionId: string } | { outcome: "cancelled" };

/** Nobody is there to ask, so nothing is permitted for longer than once; what cannot be answered is not permitted. */
function choose(options: readonly { optionId: string; kind: string }[], wanted: "allow_once" | "reject_once"): Choice {
  const option = options.find(({ kind }) => kind === wanted);
  return option ? { outcome: "selected", optionId: option.optionId } : { outcome: "cancelled" };
}

export function isObject(value: unknown): value is Frame {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The objects of a list that an agent sent. */
export function objectsOf(value: unknown): readonly Frame[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}
