// One connection for commands, with the scripts that it runs. Errors come out as ours.
import type { Cluster } from "ioredis";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import { type Client, commandTimeoutMs } from "./clients.ts";
import { isRedirection, isUnknownScript, storeError } from "./errors.ts";
import { texts } from "./replies.ts";
import { loadScripts, type ScriptName } from "./scripts.ts";
import { createGuard } from "./silence.ts";
import { slotOf } from "./slots.ts";

export type Argument = string | number;
/** A command about one key. */
export type Command = readonly [name: string, key: string, ...args: Argument[]];

export interface Connection {
  /** Runs a script: one atomic operation, one round trip. */
  script(name: ScriptName, keys: readonly string[], args: readonly Argument[]): Promise<unknown>;
  command(...command: Command): Promise<unknown>;
  /** Runs commands that may be about different slots together, in no order. */
  together(commands: readonly Command[]): Promise<unknown[]>;
  /** The texts of these keys, in their order, in as few commands as there can be; undefined: there is none. */
  values(keys: readonly string[]): Promise<(string | undefined)[]>;
  ping(): Promise<void>;
  publish(channel: string, message: string): Promise<void>;
}

/** How many commands are on their way at a time, of those that `together` was given; and how many keys one command reads. */
const togetherMax = 1_000;

export function createConnection(client: Client): Connection {
  const scripts = loadScripts();
  const guard = createGuard(client);

  const runTogether = async (commands: readonly Command[]): Promise<unknown[]> => {
    const results: unknown[] = [];
    const runGroup = async (some: readonly (readonly [number, Command])[]) => {
      const own = some.map(([, command]) => command);
      const replies = await guard.about(own[0]?.[1] ?? "", () => runPipeline(client, own));
      for (const [at, [index]] of some.entries()) results[index] = replies[at];
    };
    const byGroup = Map.groupBy([...commands.entries()], ([, command]) => guard.groupOf(command[1]));
    await Promise.all([...byGroup.values()].map(runGroup));
    return results;
  };
  const together = async (commands: readonly Command[]): Promise<unknown[]> => {
    const results: unknown[] = [];
    for (const some of chunks(commands, togetherMax)) results.push(...(await ours(runTogether(some))));
    return results;
  };

  return {
    script(name, keys, args) {
      const { digest, text, keyCount } = scripts[name];
      if (keyCount !== undefined && keyCount !== keys.length) throw new Error(`${name} takes ${keyCount} keys`);
      const run = async () => {
        try {
          return await client.evalsha(digest, keys.length, ...keys, ...args);
        } catch (error) {
          if (!isUnknownScript(error)) throw error;
          return await client.eval(text, keys.length, ...keys, ...args);
        }
      };
      return ours(guard.about(keys[0] ?? "", run));
    },
    command: (...command) => ours(guard.about(command[1], () => client.call(...command))),
    together,
    async values(keys) {
      const reads = chunks(keys, togetherMax).flatMap((some) => (client.isCluster ? bySlot(some) : [some]));
      const replies = await together(reads.map(([first = "", ...rest]) => ["MGET", first, ...rest]));
      const found = new Map(reads.flatMap((some, index) => zip(some, texts(replies[index]))));
      return keys.map((key) => found.get(key));
    },
    ping: async () => void (await ours(guard.anywhere((node) => node.ping()))),
    publish: async (channel, message) => void (await ours(guard.anywhere((node) => node.publish(channel, message)))),
  };
}

/** A failure comes out as one of our errors. */
async function ours<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw storeError(error);
  }
}

/** Commands for one server, or one node of a Cluster. */
async function runPipeline(client: Client, commands: readonly Command[]): Promise<unknown[]> {
  const pipeline = client.pipeline();
  for (const [name, ...args] of commands) pipeline.call(name, ...args);
  const replies = (await pipeline.exec()) ?? [];
  const failure = replies.find(([error]) => error && !isRedirection(error))?.[0];
  if (failure) throw failure;
  // A slot that moves to another node meanwhile: a command by itself finds its way there.
  return Promise.all(
    commands.map((command, index) => (replies[index]?.[0] ? client.call(...command) : replies[index]?.[1])),
  );
}

function chunks<T>(all: readonly T[], size: number): (readonly T[])[] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, index) =>
    all.slice(index * size, (index + 1) * size),
  );
}

function bySlot(keys: readonly string[]): (readonly string[])[] {
  return [...Map.groupBy(keys, slotOf).values()];
}

function zip(keys: readonly string[], values: readonly (string | undefined)[]): [string, string | undefined][] {
  return keys.map((key, index) => [key, values[index]]);
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
