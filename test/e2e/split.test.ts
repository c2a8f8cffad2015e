// Every service as a process of its own, on one Valkey: what `up` joins in one process works apart, and goes on when one of several is killed.
import { afterAll, beforeAll, expect, test } from "vitest";
import { account, ask, fleet, model, words } from "../support/fleet.ts";
import { type SplitSystem, startSplitSystem } from "../support/split-system.ts";
import { until } from "../support/until.ts";

let system: SplitSystem;

beforeAll(async () => {
  system = await startSplitSystem({
    counts: { scheduler: 2, gateway: 2 },
    configuration: fleet({
      accounts: [account("a-1"), account("a-2")],
      gateway: { hold_ttl: "3s", sweep_interval: "1s" },
      prices: { [model]: { input: 1, output: 10 } },
    }),
  });
});

afterAll(async () => {
  await system?.[Symbol.asyncDispose]();
});

test("each gateway answers, whole and streamed, and one ledger has it all", async () => {
  for (const index of system.gateways.keys()) {
    const client = system.gateway(index).openai();
    const whole = await client.chat.completions.create({ model, messages: ask({ do: "answer", chunks: 3 }) });
    expect(whole.choices[0]?.message.content).toBe(words(3));
    const stream = await client.chat.completions.create({
      model,
      stream: true,
      messages: ask({ do: "answer", chunks: 3 }),
    });
    let text = "";
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    expect(text).toBe(words(3));
  }
  const entries = await system.admin.usage("default");
  expect(entries.map((each) => each.end)).toEqual(Array(4).fill("finished"));
  const user = await system.admin.user("default");
  expect(user.granted).toBe(user.available + user.held + user.spent);
  expect(user.spent).toBe(entries.reduce((sum, each) => sum + each.cost, 0));
});

test("a scheduler killed under load is missed by nobody, and an answer's decision is found at either", async () => {
  const one = system.gateway(0).openai();
  let answered = 0;
  let ids: string[] = [];
  let running = true;
  const client = async () => {
    while (running) {
      const asked = { model, messages: ask({ do: "answer", chunks: 2, delay_ms: 20 }) };
      const { response } = await one.chat.completions.create(asked).withResponse();
      ids = [...ids, response.headers.get("x-request-id") ?? ""].slice(-8);
      answered += 1;
    }
  };
  const clients = Promise.all(Array.from({ length: 6 }, client));
  await until("both schedulers have given leases", () => answered >= 40);
  for (const id of ids) expect((await system.admin.decisions(id)).at(-1)?.accountId).toMatch(/^a-/);
  await system.kill("scheduler-2");
  const before = answered;
  await until("the other one gives leases to all", () => answered >= before + 60);
  running = false;
  await clients;
  for (const each of await system.admin.accounts()) expect(each.granted).toBe(each.credits + each.held + each.spent);
});

test("a gateway killed in mid-stream leaves its agent stopped, and the other one settles its request", async () => {
  const before = await system.admin.user("default");
  const stream = await system
    .gateway(1)
    .openai()
    .chat.completions.create({
      model,
      stream: true,
      messages: ask({ do: "answer", chunks: 1_000, pause_ms: 20 }),
    });
  let seen = 0;
  const reading = (async () => {
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content) seen += 1;
      if (seen === 5) await system.kill("gateway-2");
    }
  })();
  await expect(reading).rejects.toThrow();
  await until(
    "the hold is swept",
    async () => {
      const user = await system.admin.user("default");
      return user.held === 0 && user.spent > before.spent;
    },
    { timeoutMs: 60_000 },
  );
  const [entry] = await system.admin.usage("default");
  expect(entry?.end).toBe("cancelled");
  expect(entry?.credits).toBeGreaterThan(0);
  const user = await system.admin.user("default");
  expect(user.granted).toBe(user.available + user.held + user.spent);
  for (const each of await system.admin.accounts()) expect(each.granted).toBe(each.credits + each.held + each.spent);
});
