// The store that a configuration names.
import { DrawbridgeError } from "../kit/errors.ts";
import type { Log } from "../kit/log.ts";
import type { State } from "./state.ts";

/** `sqlite:PATH` or `sqlite::memory:`. INVALID_ARGUMENT for anything else. */
export async function openState(url: string, { log }: { readonly log: Log }): Promise<State> {
  const [, scheme, rest] = /^([a-z+]+):(.*)$/s.exec(url) ?? [];
  if (scheme === "sqlite" && rest) {
    const { openEmbeddedState } = await import("./embedded/store.ts");
    return openEmbeddedState({ path: rest.replace(/^\/\//, ""), log });
  }
  throw new DrawbridgeError(
    "INVALID_ARGUMENT",
    `The store "${url}" is not known: write sqlite:PATH, such as sqlite:.drawbridge/state.db.`,
  );
}
