// The thread's side: answers calls from a store. It knows no method by name; it offers what the store has.
import type { MessagePort } from "node:worker_threads";
import type { State } from "../../state.ts";
import { type Answer, type Call, faultOf, type FromStore, type Surface, type ToStore } from "./messages.ts";

type Method = (...args: readonly unknown[]) => Promise<unknown>;
type Subscribe = (listener: () => void) => Disposable;

/** Serves the store until the other side closes it. */
export function serveState(state: State, port: MessagePort): void {
  const { methods, subscribes } = methodsOf(state);
  const tell = (message: FromStore) => port.postMessage(message);
  const idle = Promise.withResolvers<void>();
  let open = 0;
  let closing = false;
  const subscriptions = new Map<string, Disposable>();
  let answers: Answer[] = [];
  const changed = new Set<string>();
  let telling = false;

  const flush = () => {
    telling = false;
    const told = answers;
    answers = [];
    tell({ kind: "answers", answers: told, changed: [...changed] });
    changed.clear();
  };
  /** After every answer of the same commit, which all come before the next tick. */
  const flushSoon = () => {
    if (!telling) process.nextTick(flush);
    telling = true;
  };
  const answer = async ([id, method, args]: Call) => {
    open += 1;
    try {
      const result = await methods[method]?.run(...args);
      answers.push([id, result]);
    } catch (error) {
      answers.push([id, undefined, faultOf(error)]);
    }
    open -= 1;
    if (closing && open === 0) idle.resolve();
    flushSoon();
  };
  const watch = (part: string) => {
    const subscription = subscribes.get(part)?.(() => {
      changed.add(part);
      flushSoon();
    });
    if (subscription) subscriptions.set(part, subscription);
  };
  const close = async () => {
    for (const subscription of subscriptions.values()) subscription[Symbol.dispose]();
    closing = true;
    if (open > 0) await idle.promise;
    await state[Symbol.asyncDispose]();
    port.close();
  };

  port.on("message", (message: ToStore) => {
    switch (message.kind) {
      case "calls":
        for (const call of message.calls) void answer(call);
        return;
      case "watch":
        return watch(message.part);
      case "unwatch":
        subscriptions.get(message.part)?.[Symbol.dispose]();
        subscriptions.delete(message.part);
        return;
      case "close":
        void close();
    }
  });
  const surface: Surface = {
    methods: methods.map(({ part, name }) => [part, name]),
    observed: [...subscribes.keys()],
  };
  tell({ kind: "open", surface });
}

/** Every function of the store and of its parts. */
function methodsOf(state: State) {
  const methods: { readonly part: string; readonly name: string; readonly run: Method }[] = [];
  const subscribes = new Map<string, Subscribe>();
  const parts: [string, object][] = [["", state]];
  for (const [name, value] of Object.entries(state)) if (typeof value === "object") parts.push([name, value as object]);
  for (const [part, functions] of parts) {
    for (const [name, value] of Object.entries(functions)) {
      if (typeof value !== "function") continue;
      if (name === "onChange") subscribes.set(part, value as Subscribe);
      else methods.push({ part, name, run: value as Method });
    }
  }
  return { methods, subscribes };
}
