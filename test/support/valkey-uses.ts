// Which services write and read which keys of a Valkey server, as the server itself sees it.
import { Redis } from "ioredis";
import { documentedName } from "./documented-keys.ts";
import { until } from "./until.ts";

export interface KeyUse {
  readonly writers: ReadonlySet<string>;
  readonly readers: ReadonlySet<string>;
}

export interface UseWatch extends AsyncDisposable {
  /** Uses of keys that have the prefix, by what docs/state.md calls the key. */
  uses(): Promise<ReadonlyMap<string, KeyUse>>;
}

interface CommandForm {
  readonly writes: boolean;
  /** 0: it is about no key. */
  readonly firstKey: number;
  /** Negative: counted from the end. */
  readonly lastKey: number;
  readonly step: number;
}

const lookMs = 100;

/** Watches until it is disposed. */
export async function watchUses(url: string, prefix: string): Promise<UseWatch> {
  await using starting = new AsyncDisposableStack();
  const address = url.replace(/^valkey/, "redis").replace(/\?.*$/, "");
  const client = starting.adopt(new Redis(address), (each) => each.disconnect());
  const forms = await readForms(client);
  const monitor = starting.adopt(await client.monitor(), (each) => each.disconnect());
  /** A connection's address → the service whose it is. */
  const services = new Map<string, string>();
  /** A connection's address → what it did to which keys. */
  const seen = new Map<string, { writes: Set<string>; reads: Set<string> }>();
  let lastEcho: string | undefined;
  let caller = "";
  monitor.on("monitor", (_time: string, args: string[], source: string) => {
    // What a script does follows the call of the script.
    if (source !== "lua") caller = source;
    const [name = "", first] = args;
    if (name.toLowerCase() === "echo") lastEcho = first;
    const form = forms.get(name.toLowerCase());
    if (!form) return;
    const own = seen.get(caller) ?? { writes: new Set(), reads: new Set() };
    seen.set(caller, own);
    for (const key of keysOf(form, args)) {
      if (!key.startsWith(prefix)) continue;
      const known = documentedName(key.slice(prefix.length).replace(`{${prefix}`, "{"));
      (form.writes ? own.writes : own.reads).add(known);
    }
  });
  const look = async () => {
    for (const line of String(await client.client("LIST")).split("\n")) {
      const [, from = ""] = / addr=(\S+)/.exec(line) ?? [];
      const [, service] = / name=([a-z]+):\d+:/.exec(line) ?? [];
      if (service !== undefined) services.set(from, service);
    }
  };
  const timer = setInterval(() => void look().catch(() => {}), lookMs);
  starting.defer(() => clearInterval(timer));
  const resources = starting.move();
  let marks = 0;
  return {
    async uses() {
      await look();
      const mark = `mark ${(marks += 1)}`;
      await client.echo(mark);
      await until("the monitor has seen all", () => lastEcho === mark);
      const uses = new Map<string, { writers: Set<string>; readers: Set<string> }>();
      const useOf = (name: string) => {
        const use = uses.get(name) ?? { writers: new Set(), readers: new Set() };
        uses.set(name, use);
        return use;
      };
      for (const [source, { writes, reads }] of seen) {
        const service = services.get(source);
        if (service === undefined) continue;
        for (const name of writes) useOf(name).writers.add(service);
        for (const name of reads) useOf(name).readers.add(service);
      }
      return uses;
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

type CommandReply = [name: string, arity: number, flags: string[], first: number, last: number, step: number];

async function readForms(client: Redis): Promise<Map<string, CommandForm>> {
  const replies = (await client.call("COMMAND")) as CommandReply[];
  // A script names its keys to the server; what it does with them, it says itself.
  return new Map(
    replies
      .filter(([name]) => !name.startsWith("eval"))
      .map(([name, , flags, firstKey, lastKey, step]) => [
        name,
        { writes: flags.includes("write"), firstKey, lastKey, step },
      ]),
  );
}

function keysOf({ firstKey, lastKey, step }: CommandForm, args: readonly string[]): string[] {
  if (firstKey === 0) return [];
  const last = lastKey < 0 ? args.length + lastKey : lastKey;
  return args.filter((_, index) => index >= firstKey && index <= last && (index - firstKey) % step === 0);
}
