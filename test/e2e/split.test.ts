// Every service as a process of its own, on one Valkey: what `up` joins in one process works apart, too.
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { stringify } from "yaml";
import { type Admin, createAdmin } from "../support/admin.ts";
import { account, ask, fleet, model, words } from "../support/fleet.ts";
import { processesOf } from "../support/system-processes.ts";
import { until } from "../support/until.ts";
import { freePorts, startValkey, type ValkeyServer } from "../support/valkey.ts";

const entry = fileURLToPath(new URL("../../services/drawbridge.ts", import.meta.url));
const apiKey = "sk-split-test-key";
const adminKey = "sk-admin-split-test-key";

const children = new Map<string, ChildProcess>();
let valkey: ValkeyServer;
let folder: string;
let environment: NodeJS.ProcessEnv;
let gateways: string[];
let admin: Admin;
let printed = "";

function start(name: string, service: string, listen: string): void {
  const child = spawn(process.execPath, [entry, service, "--listen", listen], { cwd: folder, env: environment });
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => (printed = (printed + text).slice(-100_000)));
  }
  children.set(name, child);
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once("exit", resolve));
}

const openai = (url: string) => new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const answers = async (url: string) => (await fetch(`${url}/readyz`).catch(() => undefined))?.ok === true;

beforeAll(async () => {
  valkey = await startValkey();
  folder = await mkdtemp(join(tmpdir(), "drawbridge-split-"));
  const configuration = fleet({
    accounts: [account("a-1"), account("a-2")],
    gateway: { hold_ttl: "3s", sweep_interval: "1s" },
    prices: { [model]: { input: 1, output: 10 } },
  });
  await writeFile(join(folder, "drawbridge.yaml"), stringify(configuration));
  const [registry, scheduler, another, controller, one, two] = await freePorts(6);
  const local = (port: number | undefined) => `127.0.0.1:${port}`;
  gateways = [`http://${local(one)}`, `http://${local(two)}`];
  environment = {
    PATH: process.env["PATH"],
    HOME: folder,
    DRAWBRIDGE_STATE: `${valkey.url}${valkey.url.includes("?") ? "&" : "?"}prefix=split-${randomBytes(6).toString("hex")}`,
    DRAWBRIDGE_INTERNAL_TOKEN: "split-test-token",
    DRAWBRIDGE_API_KEY: apiKey,
    DRAWBRIDGE_ADMIN_KEY: adminKey,
    DRAWBRIDGE_REGISTRY_URL: `http://${local(registry)}`,
    DRAWBRIDGE_SCHEDULER_URL: `http://${local(scheduler)},http://${local(another)}`,
    DRAWBRIDGE_CONTROLLER_URL: `http://${local(controller)}`,
  };
  start("registry", "registry", local(registry));
  start("scheduler-1", "scheduler", local(scheduler));
  start("scheduler-2", "scheduler", local(another));
  start("controller", "controller", local(controller));
  start("gateway-1", "gateway", local(one));
  start("gateway-2", "gateway", local(two));
  try {
    for (const url of gateways) await until(`${url} is ready`, () => answers(url), { timeoutMs: 60_000 });
  } catch (error) {
    throw new Error(`The services did not come up. They printed:\n${printed}`, { cause: error });
  }
  admin = createAdmin(gateways[0] ?? "", adminKey);
});

afterAll(async () => {
  await admin?.[Symbol.asyncDispose]();
  for (const child of children.values()) child.kill("SIGTERM");
  await Promise.all([...children.values()].map(ended));
  expect(await processesOf(folder)).toEqual([]);
  await valkey?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

test("each gateway answers, whole and streamed, and one ledger has it all", async () => {
  for (const url of gateways) {
    const whole = await openai(url).chat.completions.create({ model, messages: ask({ do: "answer", chunks: 3 }) });
    expect(whole.choices[0]?.message.content).toBe(words(3));
    const stream = await openai(url).chat.completions.create({
      model,
      stream: true,
      messages: ask({ do: "answer", chunks: 3 }),
    });
    let text = "";
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    expect(text).toBe(words(3));
  }
  const entries = await admin.usage("default");
  expect(entries.map((each) => each.end)).toEqual(Array(4).fill("finished"));
  const user = await admin.user("default");
  expect(user.granted).toBe(user.available + user.held + user.spent);
  expect(user.spent).toBe(entries.reduce((sum, each) => sum + each.cost, 0));
});

test("a scheduler killed under load is missed by nobody, and an answer's decision is found at either", async () => {
  const url = gateways[0] ?? "";
  let answered = 0;
  let ids: string[] = [];
  let running = true;
  const client = async () => {
    while (running) {
      const asked = { model, messages: ask({ do: "answer", chunks: 2, delay_ms: 20 }) };
      const { response } = await openai(url).chat.completions.create(asked).withResponse();
      ids = [...ids, response.headers.get("x-request-id") ?? ""].slice(-8);
      answered += 1;
    }
  };
  const clients = Promise.all(Array.from({ length: 6 }, client));
  await until("both schedulers have given leases", () => answered >= 40);
  for (const id of ids) expect((await admin.decisions(id)).at(-1)?.accountId).toMatch(/^a-/);
  children.get("scheduler-2")?.kill("SIGKILL");
  const before = answered;
  await until("the other one gives leases to all", () => answered >= before + 60);
  running = false;
  await clients;
  for (const each of await admin.accounts()) expect(each.granted).toBe(each.credits + each.held + each.spent);
});

test("a gateway killed in mid-stream leaves its agent stopped, and the other one settles its request", async () => {
  const before = await admin.user("default");
  const url = gateways[1] ?? "";
  const stream = await openai(url).chat.completions.create({
    model,
    stream: true,
    messages: ask({ do: "answer", chunks: 1_000, pause_ms: 20 }),
  });
  let seen = 0;
  const reading = (async () => {
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content) seen += 1;
      if (seen === 5) children.get("gateway-2")?.kill("SIGKILL");
    }
  })();
  await expect(reading).rejects.toThrow();
  await until(
    "the hold is swept",
    async () => {
      const user = await admin.user("default");
      return user.held === 0 && user.spent > before.spent;
    },
    { timeoutMs: 60_000 },
  );
  const [entry] = await admin.usage("default");
  expect(entry?.end).toBe("cancelled");
  expect(entry?.credits).toBeGreaterThan(0);
  const user = await admin.user("default");
  expect(user.granted).toBe(user.available + user.held + user.spent);
  for (const each of await admin.accounts()) expect(each.granted).toBe(each.credits + each.held + each.spent);
});
