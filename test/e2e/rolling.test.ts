// Ten workers are replaced one after the other because their account has changed, while clients ask without a pause: none of them notices.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { idle } from "../support/books.ts";
import { account, ask, fleet, model, words } from "../support/fleet.ts";
import { startSystem, type System } from "../support/system.ts";
import { until } from "../support/until.ts";

const workers = 10;
const clients = 8;
const chunks = 5;

let system: System;

beforeAll(async () => {
  const accounts = [account("a-1", { slots: 2, workers: { min: workers, max: workers } })];
  system = await startSystem({ configuration: fleet({ accounts, controller: { surge: 2 } }) });
}, 240_000);

afterAll(async () => {
  await system?.[Symbol.asyncDispose]();
});

/** Asks one stream after the other until told to end; what went wrong. */
async function load(ended: () => boolean, counted: () => void): Promise<string[]> {
  const failures: string[] = [];
  const client = system.openai();
  while (!ended()) {
    try {
      const messages = ask({ do: "answer", chunks, pause_ms: 10 });
      const stream = await client.chat.completions.create({ model, stream: true, messages });
      let text = "";
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
      if (text !== words(chunks)) failures.push(`an answer was ${JSON.stringify(text)}`);
      counted();
    } catch (error) {
      failures.push(String(error));
    }
  }
  return failures;
}

async function changeSlots(slots: number): Promise<void> {
  const file = join(system.folder, "drawbridge.yaml");
  const configuration = parse(await readFile(file, "utf8")) as { accounts: { slots: number }[] };
  for (const each of configuration.accounts) each.slots = slots;
  await writeFile(file, stringify(configuration));
  const { code, output, errors } = await system.command("apply", "--file", "drawbridge.yaml");
  expect(code, `${output}${errors}`).toBe(0);
}

test("a changed account rolls over ten workers under load without one failed request", {
  timeout: 300_000,
}, async () => {
  const healthy = async () => (await system.admin.workers()).filter(({ health }) => health === "healthy");
  const whole = async () => (await healthy()).length === workers;
  await until("all workers run", whole, { timeoutMs: 120_000, everyMs: 200 });
  const before = new Set((await healthy()).map(({ pid }) => pid));
  let ended = false;
  let answered = 0;
  const loads = Array.from({ length: clients }, () =>
    load(
      () => ended,
      () => answered++,
    ),
  );
  try {
    await until("the load runs", () => answered > clients);
    await changeSlots(3);
    const replaced = async () => {
      const now = await system.admin.workers();
      return (
        now.length === workers && now.every(({ pid, slots }) => slots === 3 && !before.has(pid)) && (await whole())
      );
    };
    await until("every worker is another one", replaced, { timeoutMs: 200_000, everyMs: 200 });
    const sofar = answered;
    await until("the new ones serve", () => answered > sofar + clients);
  } finally {
    ended = true;
  }
  expect((await Promise.all(loads)).flat()).toEqual([]);
  process.stdout.write(`${answered} requests while ${workers} workers were replaced\n`);
  await idle(system.admin);
});
