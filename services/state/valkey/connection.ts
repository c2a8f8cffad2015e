// One connection for commands, with the scripts that it runs. Errors come out as ours.
import type { Cluster } from "ioredis";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import { type Client, commandTimeoutMs } from "./clients.ts";
import { isUnknownScript, storeError } from "./errors.ts";
import { loadScripts, type ScriptName } from "./scripts.ts";
import { createSilence } from "./silence.ts";

export type Argument = string | number;
export type Command = readonly [name: string, ...args: Argument[]];

export interface Connection {
  /** Runs a script: one atomic operation, one round trip. */
  script(name: ScriptName, keys: readonly string[], args: readonly Argument[]): Promise<unknown>;
  command(name: string, ...args: Argument[]): Promise<unknown>;
  /** Runs commands that may be about different slots together, in no order. */
  together(commands: readonly Command[]): Promise<unknown[]>;
}

/** How many commands are on their way at a time, of those that `together` was given. */
const togetherMax = 1_000;

export function createConnection(client: Client): Connection {
  const scripts = loadScripts();
  // Of a Cluster, one node may be silent while the others answer.
  const silence = client.isCluster ? undefined : createSilence(() => client.ping());
  const guard = async <T>(work: () => Promise<T>): Promise<T> => {
    silence?.check();
    try {
      return await work();
    } catch (error) {
      silence?.heard(error);
      throw storeError(error);
    }
  };
  return {
    script: (name, keys, args) =>
      guard(async () => {
        const { digest, text, keyCount } = scripts[name];
        if (keyCount !== undefined && keyCount !== keys.length) throw new Error(`${name} takes ${keyCount} keys`);
        try {
          return await client.evalsha(digest, keys.length, ...keys, ...args);
        } catch (error) {
          if (!isUnknownScript(error)) throw error;
          return await client.eval(text, keys.length, ...keys, ...args);
        }
      }),
    command: (name, ...args) => guard(() => client.call(name, ...args)),
    together: (commands) =>
      guard(async () => {
        const results: unknown[] = [];
        for (let start = 0; start < commands.length; start += togetherMax) {
          results.push(...(await runTogether(client, commands.slice(start, start + togetherMax))));
        }
        return results;
      }),
  };
}

async function runTogether(client: Client, commands: readonly Command[]): Promise<unknown[]> {
  // A Cluster's pipeline takes one slot only; its single commands find their nodes by themselves.
  if (client.isCluster) return Promise.all(commands.map(([name, ...args]) => client.call(name, ...args)));
  const pipeline = client.pipeline();
  for (const [name, ...args] of commands) pipeline.call(name, ...args);
  const results = (await pipeline.exec()) ?? [];
  return results.map(([error, result]) => {
    if (error) throw error;
    return result;
  });
}

export interface ConnectOptions {
  readonly client: Client;
  readonly log: Log;
  /** How long a store that is away is waited for. */
  readonly timeoutMs: number;
}

/** Waits until the client is ready. STATE_UNAVAILABLE if that takes too long; the client is then given up. */
export async function connect({ client, log, timeoutMs }: ConnectOptions): Promise<void> {
  let last: unknown;
  client.on("error", (error) => {
    // Said once: the client connects again by itself, and every call that fails meanwhile says so.
    if (last === undefined) log.warn({ err: error }, "the connection to the store has trouble");
    last = error;
  });
  client.on("ready", () => {
    if (last !== undefined) log.info("the connection to the store is well again");
    last = undefined;
  });
  const ready = new Promise<void>((resolve) => client.once("ready", () => resolve()));
  // A first attempt that fails is followed by others.
  client.connect().catch((error: unknown) => (last ??= error));
  const timeout = Promise.withResolvers<"timeout">();
  const timer = setTimeout(() => timeout.resolve("timeout"), timeoutMs);
  const first = await Promise.race([ready, timeout.promise]);
  clearTimeout(timer);
  if (first !== "timeout") return;
  client.disconnect();
  throw new DrawbridgeError(
    "STATE_UNAVAILABLE",
    `The store did not answer within ${timeoutMs / 1000} s. Check its address ("state") and that it runs.`,
    { cause: last, retryAfterMs: commandTimeoutMs },
  );
}

/** Ends the client after what is on its way. */
export async function disconnect(client: Client): Promise<void> {
  try {
    await client.quit();
  } catch {
    // It was not connected: there is nothing on its way.
  }
  client.disconnect();
}

/** Nodes of a Cluster as far as they are known. */
export function knownNodes(client: Client): { host: string; port: number }[] {
  if (!client.isCluster) return [];
  return (client as Cluster)
    .nodes("all")
    .map(({ options }) => ({ host: options.host ?? "", port: options.port ?? 0 }))
    .filter(({ host, port }) => host !== "" && port !== 0);
}
