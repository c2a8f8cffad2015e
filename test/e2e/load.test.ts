// Many streams at once through one worker: nothing is lost or mixed up, nothing is left, and memory stays flat.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { idle, settledBooks } from "../support/books.ts";
import { account, ask, fleet, model } from "../support/fleet.ts";
import { startSystem, type System } from "../support/system.ts";

const streams = 200;
const rounds = 5;
const chunks = 20;
const slots = 8;

/**
 * The heap of each process, in MiB. Where memory is plentiful V8 lets garbage pile up for long, and resident memory says little; in a heap
 * that is not much larger than what lives in it, a leak shows at once.
 */
const heapMax = 128;
/** Resident memory may grow by this factor between the first rounds and the last one. */
const growthMax = 1.2;

let system: System;

beforeAll(async () => {
  system = await startSystem({
    environment: { NODE_OPTIONS: `--max-old-space-size=${heapMax}` },
    configuration: fleet({
      accounts: [account("a-1", { slots, queue: streams, credits: 10_000_000 })],
      prices: { [model]: { input: 1, output: 1 } },
      worker: { processes_min: slots },
    }),
  });
});

afterAll(async () => {
  await system[Symbol.asyncDispose]();
});

async function readStream(client: ReturnType<System["openai"]>, name: string): Promise<string> {
  const messages = ask({ do: "answer", text: `${name} `, chunks, pause_ms: 2 });
  const stream = await client.chat.completions.create({ model, stream: true, messages });
  let text = "";
  let finish: string | null | undefined;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    finish = chunk.choices[0]?.finish_reason ?? finish;
  }
  expect(finish).toBe("stop");
  return text;
}

/** Resident memory of `up` and of the worker, in MiB. */
async function memory(): Promise<{ readonly up: number; readonly worker: number }> {
  const [worker] = await system.admin.workers();
  const processes = await system.processes();
  const of = (pid: number | undefined) =>
    Math.round((processes.find((each) => each.pid === pid)?.residentBytes ?? Number.NaN) / (1 << 20));
  return { up: of(system.pid), worker: of(worker?.pid) };
}

describe(`${streams} streams at once on one worker with ${slots} slots`, () => {
  it(`all arrive whole, ${rounds} times, in memory that does not grow`, async () => {
    const { key } = await system.admin.createUser("crowd", 1_000);
    const client = system.openai({ apiKey: key });
    const used: { readonly up: number; readonly worker: number }[] = [];
    for (let round = 0; round < rounds; round++) {
      const names = Array.from({ length: streams }, (_, index) => `r${round}s${index}`);
      const texts = await Promise.all(names.map((name) => readStream(client, name)));
      expect(texts).toEqual(names.map((name) => `${name} `.repeat(chunks)));
      used.push(await memory());
    }
    const note = `memory after each round, MiB: ${used.map(({ up, worker }) => `${up}/${worker}`).join(" ")}`;
    process.stdout.write(`${note}\n`);
    for (const part of ["up", "worker"] as const) {
      const early = Math.max(...used.slice(0, 2).map((each) => each[part]));
      expect(early, note).toBeGreaterThan(0);
      expect((used.at(-1)?.[part] ?? 0) / early, `${part}: ${note}`).toBeLessThan(growthMax);
    }

    const { usage } = await settledBooks(system.admin, "crowd");
    expect(usage).toHaveLength(streams * rounds);
    expect(new Set(usage.map((row) => row.end))).toEqual(new Set(["finished"]));
    await idle(system.admin);
  });
});
