// Requests, disconnects, and kill -9 of every kind of process, at random, for many rounds: the books must balance in the end, and every answer
// that a client has got must be paid exactly. A seed repeats the choices (not the moments at which the machine carries them out).
//
// DRAWBRIDGE_KILL_ROUNDS: rounds (default 12). DRAWBRIDGE_KILL_SEED: the seed (default: a new one, printed on failure).
import { afterAll, beforeAll, expect, test } from "vitest";
import { expectAccountBalanced, settledBooks, sum } from "../support/books.ts";
import { account, ask, fleet, type Instruction, model } from "../support/fleet.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { splitKeys, type SplitSystem, startSplitSystem } from "../support/split-system.ts";
import { until } from "../support/until.ts";
import { startValkeyProcess, type ValkeyProcess } from "../support/valkey.ts";

const rounds = Number(process.env["DRAWBRIDGE_KILL_ROUNDS"] ?? 12);
const seed = Number(process.env["DRAWBRIDGE_KILL_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
const random = seededRandom(seed);
const pick = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)] as T;
const requestsPerRound = 8;

let valkey: ValkeyProcess;
let system: SplitSystem;

beforeAll(async () => {
  valkey = await startValkeyProcess(["--appendonly", "yes", "--appendfsync", "always"]);
  system = await startSplitSystem({
    state: `valkey://127.0.0.1:${valkey.port}`,
    counts: { gateway: 2, scheduler: 2 },
    configuration: fleet({
      accounts: ["a-1", "a-2", "a-3"].map((id) => account(id, { slots: 4, queue: 16 })),
      prices: { [model]: { input: 1, output: 10 } },
      // As much longer than a worker needs to tell an outcome when the store is back as the defaults are.
      gateway: { hold_ttl: "10s", sweep_interval: "500ms" },
      registry: { heartbeat_interval: "500ms", lease_ttl: "2s", prompt_lease_ttl: "10s" },
      scheduler: { lease_ttl: "10s", sweep_interval: "500ms" },
      controller: { leader_lease: "6s", leader_renew: "2s", leader_retry: "500ms" },
    }),
  });
});

afterAll(async () => {
  await system?.[Symbol.asyncDispose]();
  await valkey?.[Symbol.asyncDispose]();
});

/** What a client knows of its request. */
interface Seen {
  readonly id: string | undefined;
  /** It has the whole answer, and so has to pay for it. */
  readonly whole: boolean;
}

interface Plan {
  readonly instruction: Instruction;
  readonly stream: boolean;
  readonly gateway: number;
  /** The client leaves after so long. */
  readonly leavesAfterMs: number | undefined;
}

function plan(): Plan {
  const failures: Instruction[] = [{ do: "die" }, { do: "answer", chunks: 30, pause_ms: 10 }];
  return {
    instruction: random() < 0.15 ? pick(failures) : { do: "answer", chunks: 5, pause_ms: pick([0, 10, 40]) },
    stream: random() < 0.6,
    gateway: Math.floor(random() * 2),
    leavesAfterMs: random() < 0.25 ? 10 + random() * 300 : undefined,
  };
}

async function send({ instruction, stream, gateway, leavesAfterMs }: Plan): Promise<Seen> {
  const left = new AbortController();
  const timer = leavesAfterMs === undefined ? undefined : setTimeout(() => left.abort(), leavesAfterMs);
  let id: string | undefined;
  try {
    const response = await fetch(`${system.gateways[gateway]}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${splitKeys.api}`, "content-type": "application/json" },
      body: JSON.stringify({ model, stream, messages: ask(instruction) }),
      signal: left.signal,
    });
    id = response.headers.get("x-request-id") ?? undefined;
    const text = await response.text();
    return { id, whole: response.status === 200 && (!stream || text.endsWith("data: [DONE]\n\n")) };
  } catch {
    return { id, whole: false };
  } finally {
    clearTimeout(timer);
  }
}

/** What the processes have printed about it, the kills among it: for whoever has to find out why. */
function linesAbout(what: string): string[] {
  const lines = `${system.printed()}\n`.split("\n");
  return lines.filter((line) => line.includes(what) || line.includes('"killed"')).slice(-400);
}

type Victim = "gateway" | "scheduler" | "worker" | "valkey" | "registry" | "controller";
const victims: readonly Victim[] = [
  "gateway",
  "gateway",
  "scheduler",
  "worker",
  "worker",
  "valkey",
  "valkey",
  "registry",
  "controller",
];

/** Kills one, and starts it again where nobody else does. */
async function strike(victim: Victim): Promise<void> {
  if (victim === "valkey") {
    await valkey.kill();
    await valkey.restart();
    return;
  }
  if (victim === "worker") {
    const workers = (await system.processes()).filter(({ command }) => command.includes("drawbridge.ts worker"));
    const chosen = workers.length > 0 ? pick(workers) : undefined;
    // It may have ended since it was seen.
    if (chosen)
      await Promise.resolve()
        .then(() => process.kill(chosen.pid, "SIGKILL"))
        .catch(() => {});
    return;
  }
  const name = pick(system.names(victim));
  await system.kill(name, "SIGKILL");
  system.start(name);
}

test(`the books balance after ${rounds} rounds of kills (seed ${seed})`, {
  timeout: 120_000 + rounds * 15_000,
}, async () => {
  const seen: Seen[] = [];
  const struck: Record<string, number> = {};
  for (let round = 0; round < rounds; round++) {
    const requests = Array.from({ length: requestsPerRound }, () => send(plan()));
    const victim = pick(victims);
    struck[victim] = (struck[victim] ?? 0) + 1;
    await new Promise((resolve) => setTimeout(resolve, random() * 400));
    await strike(victim);
    seen.push(...(await Promise.all(requests)));
    for (const gateway of system.gateways.keys()) await system.ready(gateway);
  }
  const { user, accounts, usage } = await settledBooks(system.admin, "default", 90_000);
  for (const each of accounts) expectAccountBalanced(each);
  const entries = new Map(usage.map((entry) => [entry.request_id, entry]));
  // Each whole answer is in the ledger once, as finished, and paid.
  const whole = seen.filter((each) => each.whole);
  // A client that left in the moment of the last byte has a whole answer, and pays for it as one that left.
  const unpaid = whole
    .map(({ id }) => ({ id, entry: entries.get(id ?? "") }))
    .filter(({ entry }) => entry === undefined || entry.cost === 0 || !["finished", "cancelled"].includes(entry.end));
  const told = unpaid.map(({ id, entry }) => ({ id, entry, log: linesAbout(id ?? "") }));
  expect({ seed, unpaid: told }).toEqual({ seed, unpaid: [] });
  // Credits: what the ledger says of an account is never more than what the account has paid.
  const short = accounts
    .map(({ id, spent }) => ({
      id,
      spent,
      billed: sum(usage.filter((row) => row.account === id).map((row) => row.credits)),
    }))
    .filter(({ spent, billed }) => spent < billed);
  expect({ seed, short, log: short.length > 0 ? linesAbout("lease") : [] }).toEqual({ seed, short: [], log: [] });
  process.stdout.write(
    `seed ${seed}: ${rounds} rounds, ${seen.length} requests, ${whole.length} whole answers, ${usage.length} entries, ` +
      `${user.spent} micros spent, killed ${JSON.stringify(struck)}\n`,
  );
  await until(
    "the system serves",
    async () => (await send({ ...plan(), gateway: 0, leavesAfterMs: undefined, instruction: { do: "answer" } })).whole,
    {
      timeoutMs: 60_000,
    },
  );
});
