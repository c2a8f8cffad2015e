// Hints that something changed: at once inside this process, within a moment when another process wrote.
import type { Database } from "./database.ts";

export interface Changes extends Disposable {
  readonly onChange: (listener: () => void) => Disposable;
  readonly notify: () => void;
}

/** How often other processes' writes are looked for, while somebody listens. */
const pollMs = 100;

/** One for each subject, and one poll for all. */
export function createChangeHub(
  database: Database,
  onError: (error: unknown) => void,
): { subject(): Changes } & Disposable {
  const subjects = new Set<Set<() => void>>();
  let version = database.dataVersion();
  const timer = setInterval(() => {
    if (![...subjects].some((listeners) => listeners.size > 0)) return;
    try {
      const now = database.dataVersion();
      if (now === version) return;
      version = now;
    } catch (error) {
      onError(error);
      return;
    }
    for (const listeners of subjects) for (const listener of listeners) listener();
  }, pollMs);
  timer.unref();
  return {
    subject() {
      const listeners = new Set<() => void>();
      subjects.add(listeners);
      return {
        onChange(listener) {
          const own = () => listener();
          listeners.add(own);
          return { [Symbol.dispose]: () => void listeners.delete(own) };
        },
        notify() {
          // After the caller has its answer, so that a listener never runs inside an operation.
          for (const listener of listeners) queueMicrotask(() => listeners.has(listener) && listener());
        },
        [Symbol.dispose]: () => listeners.clear(),
      };
    },
    [Symbol.dispose]() {
      clearInterval(timer);
      subjects.clear();
    },
  };
}

/** Runs a transaction, and tells that something changed. */
export type Changed = <T>(work: () => T) => T;
