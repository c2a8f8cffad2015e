// Every service as a process of its own, on one Valkey: what `up` joins in one process works apart, and goes on when one of several is killed.
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readDocumentedKeys } from "../support/documented-keys.ts";
import { account, ask, fleet, model, words } from "../support/fleet.ts";
import { type SplitSystem, startSplitSystem, twoOfEach } from "../support/split-system.ts";
import { until } from "../support/until.ts";
import { startValkey } from "../support/valkey.ts";
import { type UseWatch, watchUses } from "../support/valkey-uses.ts";

const cleanUp = new AsyncDisposableStack();
const prefix = `${randomBytes(6).toString("hex")}:`;
let uses: UseWatch;
let system: SplitSystem;

beforeAll(async () => {
  const { url } = cleanUp.use(await startValkey());
  uses = cleanUp.use(await watchUses(url, prefix));
  system = await startSplitSystem({
    state: `${url}${url.includes("?") ? "&" : "?"}prefix=${prefix}`,
    counts: twoOfEach,
    configuration: fleet({
      accounts: [account("a-1"), account("a-2")],
      gateway: { hold_ttl: "3s", sweep_interval: "1s" },
      registry: { heartbeat_interval: "500ms", lease_ttl: "3s" },
      controller: { leader_lease: "6s", leader_renew: "2s", leader_retry: "500ms" },
      prices: { [model]: { input: 1, output: 10 } },
    }),
  });
  cleanUp.use(system);
});

afterAll(() => cleanUp.disposeAsync());

async function answerOf(gateway: number): Promise<string | null | undefined> {
  const asked = { model, messages: ask({ do: "answer", chunks: 2 }) };
  return (await system.gateway(gateway).openai().chat.completions.create(asked)).choices[0]?.message.content;
}

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

test("a registry killed is missed by nobody: workers beat at the other one, and schedulers hear of them there", async () => {
  const known = async () => (await system.admin.workers()).map(({ id }) => id).toSorted();
  const before = await known();
  await system.kill("registry-1");
  // Longer than the lease of a worker that would beat at nobody.
  const leaseEnd = Date.now() + 4_000;
  while (Date.now() < leaseEnd) {
    expect(await answerOf(0)).toBe(words(2));
    await sleep(50);
  }
  expect(await known()).toEqual(before);
  system.start("registry-1");
});

test("a controller killed, the leader, is missed by nobody: operators reach the other one, which leads then", async () => {
  const first = await system.admin.leader();
  const leading = system.names("controller").find((name) => first.includes(`/${system.pid(name)}/`)) ?? "";
  expect(leading).not.toBe("");
  await system.kill(leading);
  // Whatever only asks is answered at once, by the one that is left.
  for (let call = 0; call < 4; call += 1) expect(await system.admin.accounts()).toHaveLength(2);
  await until("the other one leads", async () => ![first, ""].includes(await system.admin.leader()), {
    timeoutMs: 60_000,
  });
  // Workers end with the controller that started them; the other one starts new ones.
  await until("the fleet serves", async () => (await answerOf(1)) === words(2), { timeoutMs: 60_000 });
  system.start(leading);
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

test("keys are written and read by those services that the documentation names", async () => {
  await system.admin.createUser("reader", 1);
  expect(await system.admin.workers()).not.toEqual([]);
  const documented = await readDocumentedKeys();
  const seen = await uses.uses();
  // What happened above touched most of them.
  expect(seen.size).toBeGreaterThan(30);
  for (const [name, { writers, readers }] of seen) {
    const { writtenBy = [], readBy = [] } = documented.get(name) ?? {};
    expect({ name, undocumentedWriters: [...writers].filter((each) => !writtenBy.includes(each)) }).toEqual({
      name,
      undocumentedWriters: [],
    });
    expect({ name, undocumentedReaders: [...readers].filter((each) => !readBy.includes(each)) }).toEqual({
      name,
      undocumentedReaders: [],
    });
  }
});
