// Calls to the store's thread that have no answer yet.
import { DrawbridgeError } from "../../../kit/errors.ts";
import { type Answer, type Call, errorOf } from "./messages.ts";

export interface Calls {
  /** Puts a call in the queue. STATE_UNAVAILABLE at once where too many have no answer. */
  add(method: number, args: readonly unknown[]): Promise<unknown>;
  /** Takes what was queued since the last time, in order. */
  take(): Call[];
  answer(answers: readonly Answer[]): void;
  /** Fails these calls, or all. */
  fail(error: unknown, calls?: readonly Call[]): void;
  /** Calls without an answer. */
  readonly open: number;
}

interface Waiting {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
}

export function createCalls(openMax: number): Calls {
  const waiting = new Map<number, Waiting>();
  let queue: Call[] = [];
  let nextId = 0;

  const end = (id: number): Waiting | undefined => {
    const found = waiting.get(id);
    waiting.delete(id);
    return found;
  };

  return {
    add(method, args) {
      if (waiting.size >= openMax) {
        const message = "The store has more to do than it can take. Try again.";
        return Promise.reject(new DrawbridgeError("STATE_UNAVAILABLE", message, { retryAfterMs: 1_000 }));
      }
      return new Promise((resolve, reject) => {
        const id = nextId++;
        waiting.set(id, { resolve, reject });
        queue.push([id, method, args]);
      });
    },
    take() {
      const calls = queue;
      queue = [];
      return calls;
    },
    answer(answers) {
      for (const [id, result, fault] of answers) {
        if (fault) end(id)?.reject(errorOf(fault));
        else end(id)?.resolve(result);
      }
    },
    fail(error, calls) {
      if (!calls) queue = [];
      for (const id of calls ? calls.map(([each]) => each) : [...waiting.keys()]) end(id)?.reject(error);
    },
    get open() {
      return waiting.size;
    },
  };
}
