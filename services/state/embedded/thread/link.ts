// The store's thread as the rest of the process sees it: started, told, and ended.
import { Worker } from "node:worker_threads";
import { DrawbridgeError } from "../../../kit/errors.ts";
import { errorOf, type FromStore, type Problem, type Surface, type ToStore } from "./messages.ts";

export interface LinkOptions {
  /** What the thread runs. */
  readonly program: URL;
  readonly path: string;
  readonly onAnswers: (message: Extract<FromStore, { kind: "answers" }>) => void;
  readonly onProblem: (problem: Problem) => void;
}

export interface Link {
  readonly surface: Surface;
  tell(message: ToStore): void;
  /** Whether the process waits for the thread before it ends by itself. It does not at first. */
  keepAlive(keep: boolean): void;
  /** Resolves when the thread has ended, with what it failed of. */
  readonly ended: Promise<{ readonly error: unknown }>;
}

/** Resolves once the store is open; rejects with why it cannot be opened. */
export async function startLink({ program, path, onAnswers, onProblem }: LinkOptions): Promise<Link> {
  const worker = new Worker(program, { name: "store", workerData: { path }, execArgv: [], stdin: false });
  const opened = Promise.withResolvers<Surface>();
  const ended = Promise.withResolvers<{ readonly error: unknown }>();
  let failure: unknown;
  worker.on("message", (message: FromStore) => {
    switch (message.kind) {
      case "answers":
        return onAnswers(message);
      case "problem":
        return onProblem(message.problem);
      case "open":
        return opened.resolve(message.surface);
      case "refused":
        opened.reject(errorOf(message.fault));
    }
  });
  worker.once("error", (error) => {
    failure = error;
  });
  worker.once("exit", () => {
    const message = "The store's thread ended before the store was open.";
    opened.reject(new DrawbridgeError("STATE_UNAVAILABLE", message, { cause: failure, retryAfterMs: 1_000 }));
    ended.resolve({ error: failure });
  });
  const surface = await opened.promise;
  worker.unref();
  return {
    surface,
    tell: (message) => worker.postMessage(message),
    keepAlive: (keep) => (keep ? worker.ref() : worker.unref()),
    ended: ended.promise,
  };
}
