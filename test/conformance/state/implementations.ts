// Every implementation of the state interface. The suite in this folder runs once for each, and is what the interface means.
import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { describe, inject } from "vitest";
import { silentLog } from "../../../services/kit/log.ts";
import { openState } from "../../../services/state/open.ts";
import type { State } from "../../../services/state/state.ts";
import type { ValkeyUrls } from "../valkey-servers.ts";

/** A store that nobody else uses. */
export interface Store extends AsyncDisposable {
  /** What `openState` takes, here or in another process. */
  readonly url: string;
  /** The first handle. */
  readonly state: State;
  /** One more handle to the same store, closed with the store at the latest. */
  open(): Promise<State>;
}

export interface Implementation {
  readonly name: string;
  /** A fresh, empty store. */
  create(): Promise<Store>;
}

const embedded: Implementation = {
  name: "embedded",
  async create() {
    const directory = await mkdtemp(join(tmpdir(), "drawbridge-state-"));
    return storeAt(`sqlite:${join(directory, "state.db")}`, () => rm(directory, { recursive: true, force: true }));
  },
};

/** Servers are shared by all tests; each test has a prefix of its own. */
function valkey(name: keyof ValkeyUrls): Implementation {
  return {
    name,
    create() {
      const url = inject("valkeyUrls")[name];
      const prefix = `${randomUUID()}:`;
      return storeAt(`${url}?prefix=${prefix}`, () =>
        name === "valkey" ? removeKeys(url, prefix) : Promise.resolve(),
      );
    },
  };
}

/** The single server may be one that lives longer than the tests. */
async function removeKeys(url: string, prefix: string): Promise<void> {
  const client = new Redis(url.replace(/^valkey/, "redis"));
  try {
    for await (const keys of client.scanStream({ match: `${prefix}*`, count: 1_000 })) {
      if ((keys as string[]).length > 0) await client.del(...(keys as string[]));
    }
  } finally {
    client.disconnect();
  }
}

export const implementations: readonly Implementation[] = [
  embedded,
  valkey("valkey"),
  valkey("valkey sentinel"),
  valkey("valkey cluster"),
];

/** Runs the tests for each implementation. */
export function conformance(subject: string, tests: (create: () => Promise<Store>) => void): void {
  for (const each of implementations) describe(`${each.name}: ${subject}`, () => tests(() => each.create()));
}

async function storeAt(url: string, remove: () => Promise<void>): Promise<Store> {
  await using opening = new AsyncDisposableStack();
  opening.defer(remove);
  const open = async () => opened.use(await openState(url, { log: silentLog }));
  const opened = opening.use(new AsyncDisposableStack());
  const state = await open();
  const resources = opening.move();
  return { url, state, open, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}
