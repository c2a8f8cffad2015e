// The calls of JSON-RPC that wait for their answer.
import { RequestError } from "@agentclientprotocol/sdk/unstable";
import type { Frame } from "./framing.ts";

export interface Calls {
  /** Resolves with the `result`, as the agent sent it. Throws a RequestError with what it says that is wrong. */
  readonly request: (method: string, params: unknown) => Promise<unknown>;
  /** Takes an answer. false: nobody waits for it. */
  answer(frame: Frame): boolean;
  /** Rejects what waits, and every later call. The first error stays. */
  close(error: Error): void;
  /** Why no call is taken any more; undefined: they are. */
  readonly closed: Error | undefined;
}

export function createCalls(send: (message: object) => void): Calls {
  const waiting = new Map<unknown, PromiseWithResolvers<unknown>>();
  let lastId = 0;
  let closed: Error | undefined;
  return {
    async request(method, params) {
      if (closed) throw closed;
      const call = Promise.withResolvers<unknown>();
      const id = (lastId += 1);
      waiting.set(id, call);
      send({ jsonrpc: "2.0", id, method, params });
      return await call.promise;
    },
    answer(frame) {
      const call = waiting.get(frame["id"]);
      if (!call) return false;
      waiting.delete(frame["id"]);
      if ("result" in frame) call.resolve(frame["result"]);
      else call.reject(errorOf(frame));
      return true;
    },
    close(error) {
      closed ??= error;
      for (const call of waiting.values()) call.reject(closed);
      waiting.clear();
    },
    get closed() {
      return closed;
    },
  };
}

function errorOf(frame: Frame): RequestError {
  const error = frame["error"];
  if (typeof error !== "object" || error === null) return RequestError.invalidRequest(frame);
  const { code, message, data } = error as Frame;
  return new RequestError(Number(code), String(message), data);
}
