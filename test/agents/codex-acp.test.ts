// A real agent from its package, behind the real product, with a model provider on this machine. `npm run test:agents`.
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { idle, settledBooks } from "../support/books.ts";
import { all } from "../support/event-stream.ts";
import { defaultAnswer, type ModelServer, startModelServer } from "../support/model-server/server.ts";
import { startSystem, type System } from "../support/system.ts";
import { until } from "../support/until.ts";

const agentPackage = "@zed-industries/codex-acp@0.16.0";
/** A name that the agent knows: of an unknown one it complains in its answer. */
const agentModel = "gpt-5.2";
const model = "codex";

let folder: string;
let provider: ModelServer;
let system: System;

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "drawbridge-codex-")));
  await promisify(execFile)("npm", ["install", "--prefix", folder, "--no-audit", "--no-fund", agentPackage]);
  provider = await startModelServer();
  const home = join(folder, "codex-home");
  await mkdir(home);
  await writeFile(join(home, "config.toml"), agentSettings(provider.url));
  system = await startSystem({
    environment: { LOCAL_MODEL_KEY: "key-of-the-local-model" },
    configuration: {
      agents: { codex: { command: [join(folder, "node_modules/.bin/codex-acp")], env: { CODEX_HOME: home } } },
      accounts: [
        {
          id: "codex-1",
          agent: "codex",
          models: { [model]: agentModel },
          credits: 100,
          cost_per_request: 1,
          slots: 2,
          queue: 4,
          env: { LOCAL_MODEL_KEY: { from_env: "LOCAL_MODEL_KEY" } },
        },
      ],
      prices: { [model]: { input: 3, output: 15 } },
    },
  });
}, 180_000);

afterAll(async () => {
  await system?.[Symbol.asyncDispose]();
  await provider?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

function agentSettings(url: string): string {
  return `model = "${agentModel}"
model_provider = "local"

[model_providers.local]
name = "local"
base_url = "${url}"
wire_api = "responses"
env_key = "LOCAL_MODEL_KEY"
request_max_retries = 0
stream_max_retries = 0
`;
}

function print(what: string, value: unknown): void {
  process.stdout.write(`codex-acp, ${what}: ${JSON.stringify(value)}\n`);
}

/** A user of their own for each test. */
async function clientOf(user: string) {
  const { key } = await system.admin.createUser(user, 10);
  return system.openai({ apiKey: key });
}

describe(agentPackage, () => {
  it("answers whole", async () => {
    const client = await clientOf("whole");
    const answer = await client.chat.completions.create({
      model,
      messages: [{ role: "user", content: "Please say(Bonjour from a real agent)" }],
    });
    print("whole", answer);
    expect(answer.choices[0]?.message.content).toBe("Bonjour from a real agent");
    expect(answer.choices[0]?.finish_reason).toBe("stop");
    expect(answer.usage?.completion_tokens).toBeGreaterThan(0);
    expect((await settledBooks(system.admin, "whole")).usage).toMatchObject([
      { end: "finished", account: "codex-1", credits: 1_000 },
    ]);
  });

  it("answers streamed, a piece at a time, with usage", async () => {
    const client = await clientOf("streamed");
    const stream = await client.chat.completions.create({
      model,
      stream: true,
      stream_options: { include_usage: true },
      messages: [{ role: "user", content: "count(20, 30)" }],
    });
    const chunks = await all(stream);
    const pieces = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").filter((piece) => piece !== "");
    print("streamed", { pieces, finish: chunks.at(-2)?.choices[0]?.finish_reason, usage: chunks.at(-1)?.usage });
    expect(pieces.join("")).toBe(Array.from({ length: 20 }, (_, index) => `w${index} `).join(""));
    expect(pieces.length).toBeGreaterThan(5);
    expect(chunks.at(-1)?.usage?.completion_tokens).toBeGreaterThan(0);
  });

  it("hears instructions and earlier messages", async () => {
    const client = await clientOf("historian");
    const answer = await client.chat.completions.create({
      model,
      messages: [
        { role: "system", content: "Answer in verse." },
        { role: "user", content: "My name is Ada." },
        { role: "assistant", content: "Hello Ada." },
        { role: "user", content: "What is my name?" },
      ],
    });
    expect(answer.choices[0]?.message.content).toBe(defaultAnswer);
    const heard = JSON.stringify(provider.requests.at(-1));
    for (const part of ["Answer in verse.", "My name is Ada.", "Hello Ada.", "What is my name?"])
      expect(heard).toContain(part);
  });

  it("stops when its client leaves, down to the provider's connection, and answers the next one", async () => {
    const client = await clientOf("leaver");
    const before = provider.abandoned();
    const stream = await client.chat.completions.create({
      model,
      stream: true,
      messages: [{ role: "user", content: "count(10000, 30)" }],
    });
    const pieces: string[] = [];
    for await (const chunk of stream) {
      const piece = chunk.choices[0]?.delta.content;
      if (piece) pieces.push(piece);
      if (pieces.length === 5) break;
    }
    await until("the agent hangs up on its provider", () => provider.abandoned() === before + 1);
    await idle(system.admin);
    const { usage } = await settledBooks(system.admin, "leaver");
    print("cancelled", { pieces, ledger: usage[0] });
    expect(usage).toMatchObject([{ end: "cancelled", account: "codex-1" }]);
    expect(usage[0]?.output_tokens).toBeGreaterThanOrEqual(5);

    const next = await system
      .openai()
      .chat.completions.create({ model, messages: [{ role: "user", content: "say(still here)" }] });
    print("the next one", next.choices[0]?.message.content);
    expect(next.choices[0]?.message.content).toBe("still here");
  });

  it("leaves no process, though its launcher does not forward signals", async () => {
    const agents = (await system.processes()).filter((each) => each.command.includes("codex-acp"));
    print(
      "processes before the end",
      agents.map((each) => each.command.split("/").at(-1)),
    );
    expect(agents.length).toBeGreaterThan(0);
    expect((await system.stop()).code).toBe(0);
    await system.gone();
    for (const { pid } of agents) expect(() => process.kill(pid, 0)).toThrow();
  });
});
