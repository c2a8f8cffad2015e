// The client commands: the JSON that scripts rely on, and what they say when they may not.
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { AccountRow, UsageRow, UserRow, WorkerRow } from "../support/admin.ts";
import { account, ask, fleet, model, openTier } from "../support/fleet.ts";
import { createSystemFolder, runCommand, startSystem, type System } from "../support/system.ts";
import { until } from "../support/until.ts";

let system: System;

const configuration = fleet({
  accounts: [account("a-1", { slots: 3, credits: 12.5, cost_per_request: 0.5 })],
  prices: { [model]: { input: 3, output: 15 } },
  tiers: { default: openTier, half: { ...openTier, ratio: 0.5 } },
});

beforeAll(async () => {
  system = await startSystem({ configuration });
});

afterAll(async () => {
  await system[Symbol.asyncDispose]();
});

const userKeys = ["id", "granted", "available", "held", "spent"];

describe("user", () => {
  it("create, get and grant give the same object, in millionths of a dollar", async () => {
    const created = await system.cli<UserRow>("user", "create", "--id", "alice", "--quota", "1.50");
    expect(Object.keys(created)).toEqual(userKeys);
    expect(created).toEqual({ id: "alice", granted: 1_500_000, available: 1_500_000, held: 0, spent: 0 });
    expect(await system.cli("user", "get", "alice")).toEqual(created);
    const granted = await system.cli("user", "grant", "alice", "0.50");
    expect(granted).toEqual({ ...created, granted: 2_000_000, available: 2_000_000 });
  });

  it("is refused twice, in an unknown tier, and where it is not there", async () => {
    await system.cli("user", "create", "--id", "bob", "--quota", "1", "--tier", "half");
    for (const words of [
      ["user", "create", "--id", "bob", "--quota", "1"],
      ["user", "create", "--id", "carol", "--quota", "1", "--tier", "unheard-of"],
      ["user", "get", "nobody"],
      ["user", "grant", "nobody", "1"],
      ["user", "create", "--id", "dave", "--quota", "-1"],
      ["user", "create", "--id", "dave", "--quota", "much"],
    ]) {
      const { code, errors } = await system.command(...words, "--json");
      expect([words, code]).toEqual([words, expect.any(Number)]);
      expect(code).not.toBe(0);
      expect(errors).toMatch(/bob|unheard-of|nobody|quota/);
      expect(errors).not.toMatch(/\bat \S+ \(/);
    }
  });
});

describe("key", () => {
  it("create shows the key once; list never does; revoke ends it", async () => {
    await system.cli("user", "create", "--id", "erin", "--quota", "1");
    const created = await system.cli<{ id: string; key: string }>("key", "create", "--user", "erin", "--name", "ci");
    expect(Object.keys(created).sort()).toEqual(["id", "key"]);
    expect(created.key).toMatch(/^\S{20,}$/);

    const listed = await system.cli<{ id: string }[]>("key", "list", "--user", "erin");
    expect(listed).toHaveLength(1);
    expect(listed[0]).toMatchObject({ id: created.id, name: "ci" });
    expect(JSON.stringify(listed)).not.toContain(created.key);

    const client = system.openai({ apiKey: created.key });
    await client.models.list();
    await system.cli("key", "revoke", created.id);
    await expect(client.models.list()).rejects.toMatchObject({ status: 401 });
  });
});

describe("usage", () => {
  it("has one row for each request, in the units of the other commands", async () => {
    await system.cli("user", "create", "--id", "frank", "--quota", "1");
    const { id, key } = await system.cli<{ id: string; key: string }>("key", "create", "--user", "frank");
    const messages = ask({ do: "answer", usage: { inputTokens: 100, outputTokens: 10, totalTokens: 110 } });
    const response = await system.request("/v1/chat/completions", { apiKey: key, body: { model, messages } });
    await response.text();
    const [row] = await until("the entry is there", async () => {
      const rows = await system.cli<UsageRow[]>("usage", "--user", "frank", "--since", "1h");
      return rows.length === 1 && rows;
    });
    expect(row).toEqual({
      request_id: response.headers.get("x-request-id"),
      user: "frank",
      key: id,
      model,
      account: "a-1",
      input_tokens: 100,
      output_tokens: 10,
      source: "reported",
      cost: 100 * 3 + 10 * 15,
      credits: 500,
      end: "finished",
      at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/),
    });
    expect(await system.cli("usage", "--user", "nobody-yet")).toEqual([]);
  });
});

describe("the fleet", () => {
  it("account list has the account with its credits, in thousandths", async () => {
    const rows = await system.cli<AccountRow[]>("account", "list");
    expect(rows.map((row) => Object.keys(row).sort())).toEqual([
      ["agent", "breaker", "conditions", "credits", "granted", "held", "id", "models", "spent", "workers"],
    ]);
    expect(rows[0]).toMatchObject({ id: "a-1", agent: "faulty", granted: 12_500, breaker: "closed" });
    expect(rows[0]?.workers).toHaveLength(1);
  });

  it("account grant adds credits", async () => {
    const before = (await system.cli<AccountRow[]>("account", "list"))[0]?.granted ?? 0;
    await system.cli("account", "grant", "a-1", "2.5");
    expect((await system.cli<AccountRow[]>("account", "list"))[0]?.granted).toBe(before + 2_500);
  });

  it("status has leader, workers and accounts", async () => {
    const status = await system.cli<{ leader: unknown; workers: WorkerRow[]; accounts: unknown }>("status");
    expect(Object.keys(status)).toEqual(["leader", "workers", "accounts"]);
    expect(status.leader).toEqual(expect.any(String));
    expect(status.workers).toEqual([
      {
        id: expect.any(String),
        pid: expect.any(Number),
        address: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
        accounts: ["a-1"],
        health: "healthy",
        slots: 3,
        available_slots: 3,
        queue_depth: 0,
        version: expect.stringMatching(/^\d+\.\d+\.\d+/),
      },
    ]);
    expect(status.accounts).toEqual(await system.cli("account", "list"));
    expect((await system.processes()).map((each) => each.pid)).toContain(status.workers[0]?.pid);
  });

  it("explain scores every candidate and runs nothing", async () => {
    const explained = await system.cli<object>("explain", "--model", model);
    expect(JSON.stringify(explained)).toContain('"a-1"');
  });

  it("explain tells how a request that ran was placed", async () => {
    const asked = { model, messages: [{ role: "user", content: "hello" }] };
    const response = await system.request("/v1/chat/completions", { body: asked });
    await response.text();
    const id = response.headers.get("x-request-id") ?? "";
    const { attempts } = await system.cli<{ attempts: { account: string; candidates: object[] }[] }>(
      "explain",
      "--request",
      id,
    );
    expect(attempts).toMatchObject([{ account: "a-1", refused: null, excluded: [] }]);
    expect(attempts[0]?.candidates[0]).toMatchObject({ account: "a-1", rank: 1, weight: 1 });
    const { output } = await system.command("explain", "--request", id);
    expect(output).toContain("taken: a-1");
    expect((await system.command("explain", "--request", "req_unknown")).code).not.toBe(0);
  });

  it("plan says what a file would change, and apply does it", async () => {
    const file = join(system.folder, "more.yaml");
    await writeFile(
      file,
      stringify(
        fleet({
          ...configuration,
          accounts: [account("a-1", { slots: 3, credits: 12.5, cost_per_request: 0.5 }), account("a-2")],
        }),
      ),
    );
    const plan = JSON.stringify(await system.cli("plan", "-f", file));
    expect(plan).toContain("a-2");
    expect(plan).not.toContain("a-1");
    await system.cli("apply", "-f", file);
    await until("both accounts have a worker", async () => {
      const rows = await system.cli<AccountRow[]>("account", "list");
      return rows.length === 2 && rows.every((row) => row.workers.length === 1);
    });
  });
});

describe("a command without the right", () => {
  const commandWith = (adminKey: string, url = system.url) =>
    runCommand(["status", "--json"], system.folder, { DRAWBRIDGE_URL: url, DRAWBRIDGE_ADMIN_KEY: adminKey });

  it.each([
    ["an unknown admin key", "admin-wrong"],
    ["an API key", "sk-test-of-the-whole-system-0123456789abcdef"],
  ])("is refused: %s", async (_, adminKey) => {
    const { code, output, errors } = await commandWith(adminKey);
    expect(code).not.toBe(0);
    expect(output).toBe("");
    expect(errors).toMatch(/admin key/i);
  });

  it("without any admin key is refused, and says how to give one", async () => {
    const elsewhere = await createSystemFolder();
    try {
      const { code, errors } = await runCommand(["status", "--json"], elsewhere, { DRAWBRIDGE_URL: system.url });
      expect(code).not.toBe(0);
      expect(errors).toContain("DRAWBRIDGE_ADMIN_KEY");
    } finally {
      await rm(elsewhere, { recursive: true, force: true });
    }
  });

  it("says so when nobody answers at the address", async () => {
    const { code, errors } = await commandWith(system.adminKey, "http://127.0.0.1:9");
    expect(code).not.toBe(0);
    expect(errors).toContain("127.0.0.1:9");
  });
});

describe("access", () => {
  it("a user changes, a key is rotated and limited, and both can be ended", async () => {
    await system.cli("user", "create", "--id", "rita", "--quota", "1", "--budget", "0.5", "--per", "day");
    const { output } = await system.command("user", "get", "rita");
    expect(output).toContain("$0.50 a day");
    await system.cli("user", "update", "rita", "--tier", "half", "--disable");
    const { id, key } = await system.cli<{ id: string; key: string }>("key", "create", "--user", "rita", "--rpm", "9");
    expect((await system.request("/v1/models", { apiKey: key })).status).toBe(403);
    await system.cli("user", "update", "rita", "--enable");
    const rotated = await system.cli<{ id: string; key: string }>("key", "rotate", id, "--grace", "1h");
    expect(rotated.id).toBe(id);
    for (const secret of [key, rotated.key]) {
      await until("the key opens", async () => (await system.request("/v1/models", { apiKey: secret })).status === 200);
    }
    const words = ["key", "update", id, "--concurrency", "2", "--budget", "0.25", "--per", "month"];
    expect(await system.cli(...words)).toMatchObject({
      rpm: 9,
      tpm: null,
      concurrency: 2,
      budget: 250_000,
      window: "month",
    });
    expect(await system.cli("key", "update", id, "--rpm", "none")).toMatchObject({ rpm: null, concurrency: 2 });
    expect(await system.cli("user", "delete", "rita")).toEqual({ id: "rita", deleted: true });
    await until(
      "the key is ended",
      async () => (await system.request("/v1/models", { apiKey: rotated.key })).status === 401,
    );
  });

  it("codes are made and redeemed, and admin keys do what their role may", async () => {
    await system.cli("user", "create", "--id", "sam", "--quota", "0");
    const [code] = await system.cli<{ code: string }[]>("code", "create", "--worth", "0.75", "--name", "batch");
    expect(await system.cli("code", "redeem", code?.code ?? "", "--user", "sam")).toMatchObject({ available: 750_000 });
    expect((await system.command("code", "redeem", code?.code ?? "", "--user", "sam")).errors).toMatch(/used before/);
    expect(await system.cli("code", "list")).toMatchObject([{ name: "batch", amount: 750_000, redeemed_by: "sam" }]);
    const reader = await system.cli<{ id: string; key: string }>("admin-key", "create", "--role", "read-only");
    const asReader = (words: string[]) =>
      runCommand(words, system.folder, { DRAWBRIDGE_URL: system.url, DRAWBRIDGE_ADMIN_KEY: reader.key });
    expect((await asReader(["user", "get", "sam"])).code).toBe(0);
    expect((await asReader(["user", "grant", "sam", "1"])).errors).toMatch(/role read-only; the call wants admin/);
    const [first] = await system.cli<{ id: string; role: string }[]>("admin-key", "list");
    expect((await system.command("admin-key", "revoke", first?.id ?? "")).errors).toMatch(/last admin key/);
  });

  it("the ledger is exported as CSV and JSON lines", async () => {
    const openai = system.openai();
    await openai.chat.completions.create({ model, messages: ask({ do: "answer", chunks: 2 }) });
    const csv = await until("it is settled", async () => {
      const { output } = await system.command("usage", "--user", "default", "--format", "csv");
      return output.trimEnd().split("\r\n").length > 1 && output;
    });
    expect(csv).toMatch(/^request_id,user,key,model,/);
    const { output } = await system.command("usage", "--user", "default", "--format", "jsonl", "--limit", "1");
    expect(JSON.parse(output)).toMatchObject({ user: "default", model });
  });
});
