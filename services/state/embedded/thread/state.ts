// The store on a thread of its own, so that no disk stops the event loop. Operations of the same turn go over in one message, and the answers of one
// commit come back in one: a message wakes a thread, which costs more than what it carries.
import { DrawbridgeError } from "../../../kit/errors.ts";
import type { Log } from "../../../kit/log.ts";
import type { State } from "../../state.ts";
import { createCalls } from "./calls.ts";
import { startLink } from "./link.ts";
import { createListeners } from "./listeners.ts";
import type { FromStore, Problem, Surface } from "./messages.ts";
import { supervise } from "./supervise.ts";

export interface ThreadStateOptions {
  readonly path: string;
  readonly log: Log;
  /** Operations without an answer; beyond them a call fails at once. Default 10,000. */
  readonly openMax?: number;
  /** What the thread runs. Default: the store. */
  readonly program?: URL;
}

const defaultOpenMax = 10_000;
const retryAfterMs = 1_000;

export async function openThreadState(options: ThreadStateOptions): Promise<State> {
  const { path, log, openMax = defaultOpenMax, program = new URL("./main.ts", import.meta.url) } = options;
  const calls = createCalls(openMax);
  let closed = false;
  let sending = false;

  const onAnswers = ({ answers, changed }: Extract<FromStore, { kind: "answers" }>) => {
    calls.answer(answers);
    if (calls.open === 0) thread.link()?.keepAlive(false);
    for (const part of changed) listeners.hint(part);
  };
  const onProblem = ({ level, text, error }: Problem) => log[level]({ err: error, path }, text);
  const start = () => startLink({ program, path, onAnswers, onProblem });
  const first = await start();
  const thread = supervise(first, {
    start,
    // What these had done is not known; every operation may be repeated.
    onEnded: (cause) => calls.fail(unavailable("The store failed during the operation. Try again.", cause)),
    onRestarted: () => listeners.renew(),
    log: log.child({ path }),
  });

  /** Sends what was called in this turn. */
  const flush = () => {
    sending = false;
    const taken = calls.take();
    if (taken.length === 0) return;
    try {
      thread.link()?.tell({ kind: "calls", calls: taken });
    } catch (error) {
      // Something among the arguments cannot be cloned: no argument of the interface is of such a kind.
      calls.fail(error, taken);
    }
  };
  const listeners = createListeners((kind, part) => {
    // Behind what was called before, as everything keeps its order.
    flush();
    thread.link()?.tell({ kind, part });
  });

  const call = async (method: number, args: readonly unknown[]) => {
    if (closed) throw unavailable("The store is closed.");
    const link = thread.link();
    if (!link) throw unavailable("The store failed and starts again. Try again.");
    if (calls.open === 0) link.keepAlive(true);
    const answer = calls.add(method, args);
    if (!sending) setImmediate(flush);
    sending = true;
    return answer;
  };
  const close = async () => {
    flush();
    closed = true;
    listeners.clear();
    await thread.stop();
  };
  return stateOf(first.surface, call, listeners.onChange, close);
}

/** A state with the methods that the thread says its own has. */
function stateOf(
  { methods, observed }: Surface,
  call: (method: number, args: readonly unknown[]) => Promise<unknown>,
  onChange: (part: string, listener: () => void) => Disposable,
  close: () => Promise<void>,
): State {
  const own: Record<string, unknown> = {};
  const parts: Record<string, Record<string, unknown>> = { "": own };
  const partOf = (name: string) => {
    parts[name] ??= own[name] = {};
    return parts[name];
  };
  for (const [index, [part, name]] of methods.entries()) {
    partOf(part)[name] = (...args: readonly unknown[]) => call(index, args);
  }
  for (const part of observed) partOf(part)["onChange"] = (listener: () => void) => onChange(part, listener);
  return { ...own, [Symbol.asyncDispose]: close } as unknown as State;
}

function unavailable(message: string, cause?: unknown): DrawbridgeError {
  return new DrawbridgeError("STATE_UNAVAILABLE", message, { cause, retryAfterMs });
}
