// `npm run bench:state`: what the operations of a request cost on Valkey, beside a plain GET on the same server: round trips, and CPU in the client
// and in the server. What an entry of the usage ledger takes, on Valkey and in SQLite. And how soon a watcher is told of a worker's death. Prints
// tables; passes no judgement.
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { silentLog } from "../../services/kit/log.ts";
import { openState } from "../../services/state/open.ts";
import type { State } from "../../services/state/state.ts";
import {
  admission,
  givenUser,
  lease,
  minuteMs,
  outcome,
  settlement,
  spec,
  t0,
  usageOf,
  worker,
} from "../conformance/state/given.ts";
import { startValkeyProcess } from "../support/valkey.ts";
import { preciseCpuMicros } from "./cpu.ts";
import { measureDeaths } from "./deaths.ts";

const print = (text: string) => process.stdout.write(`${text}\n`);
const operationsPerRound = 4_000;
const rounds = 3;

/** An operation with a number of its own, so that none is a repetition. */
interface Operation {
  readonly name: string;
  /** How many in a round. Default 4,000. */
  readonly count?: number;
  /** Before each round, not measured. */
  readonly prepare?: () => Promise<void>;
  readonly run: (n: number) => Promise<unknown>;
}

interface Cost {
  readonly clientMicros: number;
  readonly serverMicros: number;
  readonly commands: number;
}

/** Commands that the process has sent, over all its connections. */
let sent = 0;
type SendCommand = (this: Redis, ...args: unknown[]) => unknown;
const sendCommand = Reflect.get(Redis.prototype, "sendCommand") as SendCommand;
Reflect.set(Redis.prototype, "sendCommand", function count(this: Redis, ...args: unknown[]) {
  sent += 1;
  return sendCommand.apply(this, args);
});

let next = 0;

async function measure(
  { run, count = operationsPerRound }: Operation,
  concurrency: number,
  serverPid: number,
): Promise<Cost> {
  const clientBefore = process.cpuUsage();
  const serverBefore = preciseCpuMicros(serverPid);
  const sentBefore = sent;
  let left = count;
  const lane = async () => {
    while (left-- > 0) await run(next++);
  };
  await Promise.all(Array.from({ length: concurrency }, lane));
  const client = process.cpuUsage(clientBefore);
  return {
    clientMicros: (client.user + client.system) / count,
    serverMicros: (preciseCpuMicros(serverPid) - serverBefore) / count,
    commands: (sent - sentBefore) / count,
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** What `begin` let in before a round, for `end` to end. */
function begun(begin: (id: string) => Promise<unknown>, end: (id: string) => Promise<unknown>) {
  const ids: string[] = [];
  return {
    async prepare() {
      ids.length = 0;
      for (let i = 0; i < operationsPerRound; i++) ids.push(`p${next++}`);
      for (let i = 0; i < ids.length; i += 64) await Promise.all(ids.slice(i, i + 64).map(begin));
    },
    run: () => end(ids.pop() ?? ""),
  };
}

/** Stores whose directories have so many workers. */
interface Directories {
  readonly ten: State;
  readonly thousand: State;
}

function operations(state: State, { ten, thousand }: Directories, plain: Redis): Operation[] {
  const admit = (requestId: string) => state.ledger.admit(admission({ requestId, holdMicros: 10, tokens: 1 }));
  const settle = (requestId: string) => state.ledger.settle(settlement({ requestId, costMicros: 5 }));
  const acquire = (attemptId: string) =>
    state.leases.acquire(lease({ attemptId, requestId: attemptId, millicredits: 1 }));
  const release = (attemptId: string) => state.leases.settle(outcome({ attemptId }), t0);
  const record = (attemptId: string) =>
    state.outcomes.record(outcome({ attemptId, requestId: attemptId }), minuteMs, t0);
  const beat = (healthReason: string) => state.workers.beat(worker({ healthReason }), minuteMs, t0);
  return [
    { name: "GET (yardstick)", run: () => plain.get("bench:key") },
    { name: "admit", run: (n) => admit(`r${n}`) },
    { name: "settle", ...begun(admit, settle) },
    { name: "acquire a lease", run: (n) => acquire(`r${n}`) },
    { name: "settle a lease", ...begun(acquire, release) },
    { name: "record an outcome", run: (n) => record(`r${n}`) },
    { name: "beat, nothing new", run: () => beat("") },
    { name: "beat, something changed", run: (n) => beat(`${n}`) },
    { name: "list 10 workers", count: 400, run: () => ten.workers.list(t0) },
    { name: "list 1,000 workers", count: 40, run: () => thousand.workers.list(t0) },
  ];
}

async function scripts(): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await startValkeyProcess());
  const plain = new Redis({ host: "127.0.0.1", port: server.port });
  stack.defer(() => plain.disconnect());
  const pid = Number(/process_id:(\d+)/.exec(await plain.info("server"))?.[1]);
  const version = /(?:valkey|redis)_version:(\S+)/.exec(await plain.info("server"))?.[0];
  const state = stack.use(await openState(`valkey://127.0.0.1:${server.port}`, { log: silentLog }));
  await givenUser(state, { quotaMicros: 1_000_000_000_000 });
  await state.accounts.create(spec({ initialMillicredits: 1_000_000_000n }), "api", t0);
  await state.workers.put(worker(), minuteMs, t0);
  await plain.set("bench:key", "x".repeat(200));
  const directoryOf = async (workers: number) => {
    const url = `valkey://127.0.0.1:${server.port}?prefix=list-${workers}:`;
    const directory = stack.use(await openState(url, { log: silentLog }));
    for (let id = 0; id < workers; id += 1) await directory.workers.put(worker({ id: `w${id}` }), 60 * minuteMs, t0);
    return directory;
  };
  const directories = { ten: await directoryOf(10), thousand: await directoryOf(1_000) };
  print(`\n${version}, ${rounds} rounds of ${operationsPerRound} operations, medians. CPU in µs an operation.\n`);
  print("| operation | round trips | client, 1 at once | server | client, 64 at once | server |");
  print("|---|---|---|---|---|---|");
  for (const operation of operations(state, directories, plain)) {
    const cells: string[] = [];
    let commands = 0;
    for (const concurrency of [1, 64]) {
      const costs: Cost[] = [];
      for (let round = 0; round <= rounds; round++) {
        await operation.prepare?.();
        const cost = await measure(operation, concurrency, pid);
        // The first one warms up.
        if (round > 0) costs.push(cost);
      }
      commands = median(costs.map((cost) => cost.commands));
      cells.push(
        ...[costs.map((each) => each.clientMicros), costs.map((each) => each.serverMicros)].map((all) =>
          median(all).toFixed(1),
        ),
      );
    }
    print(`| ${operation.name} | ${commands.toFixed(2)} | ${cells.join(" | ")} |`);
  }
}

const entries = 20_000;

async function fillLedger(state: State): Promise<void> {
  await givenUser(state, { quotaMicros: 1_000_000_000_000 });
  const one = async (index: number) => {
    const requestId = `req_${String(index).padStart(24, "0")}`;
    const now = t0 + index * 1_000;
    await state.ledger.admit(admission({ requestId, now, holdMicros: 100, model: "claude-sonnet-4.5" }));
    await state.ledger.settle(
      settlement({
        requestId,
        now,
        costMicros: 60,
        usage: usageOf(1_234, 567),
        accountId: "kiro-1",
        millicredits: 1_000,
      }),
    );
  };
  for (let index = 0; index < entries; index += 64) {
    await Promise.all(Array.from({ length: Math.min(64, entries - index) }, (_, offset) => one(index + offset)));
  }
}

async function ledgerMemory(): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await startValkeyProcess());
  const plain = new Redis({ host: "127.0.0.1", port: server.port });
  stack.defer(() => plain.disconnect());
  const used = async () => Number(/used_memory:(\d+)/.exec(await plain.info("memory"))?.[1]);
  const valkey = stack.use(await openState(`valkey://127.0.0.1:${server.port}`, { log: silentLog }));
  const before = await used();
  await fillLedger(valkey);
  const onValkey = ((await used()) - before) / entries;

  const folder = await mkdtemp(join(tmpdir(), "drawbridge-bench-"));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, "state.db");
  await (await openState(`sqlite:${file}`, { log: silentLog }))[Symbol.asyncDispose]();
  const empty = (await stat(file)).size;
  const sqlite = await openState(`sqlite:${file}`, { log: silentLog });
  await fillLedger(sqlite);
  await sqlite[Symbol.asyncDispose]();
  const onSqlite = ((await stat(file)).size - empty) / entries;
  print(
    `\nAn entry of the usage ledger, of ${entries}: ${onValkey.toFixed(0)} bytes of memory in Valkey, ${onSqlite.toFixed(0)} bytes of the SQLite file.`,
  );
}

async function deaths(): Promise<void> {
  await using server = await startValkeyProcess();
  const late = await measureDeaths(`valkey://127.0.0.1:${server.port}`);
  print(
    `\nFrom the end of a worker's lease until a watcher is told, of ${late.length}: median ${median(late).toFixed(0)} ms, worst ${late.at(-1)?.toFixed(0)} ms.`,
  );
}

await scripts();
await ledgerMemory();
await deaths();
process.exit(0);
