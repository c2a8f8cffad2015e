// The embedded store, for one machine.
import { resolve } from "node:path";
import type { Log } from "../../kit/log.ts";
import type { State } from "../state.ts";
import { inMemoryPath } from "./database.ts";
import { openStore } from "./store.ts";
import { openThreadState } from "./thread/state.ts";

export interface EmbeddedStateOptions {
  /** The file, made with its folder where they are not there; ":memory:" for one that ends with its owner. */
  readonly path: string;
  readonly log: Log;
}

export function openEmbeddedState({ path, log }: EmbeddedStateOptions): Promise<State> {
  if (path !== inMemoryPath) return openThreadState({ path: resolve(path), log });
  // Without a disk there is nothing to wait for. And a test with a clock of its own sees every operation done within a turn.
  return openStore({ path, onProblem: ({ level, text, error }) => log[level]({ err: error, path }, text) });
}
