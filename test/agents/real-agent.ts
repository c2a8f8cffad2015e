// A real agent from its package, behind the real product, with a model provider on this machine: what every agent is held to.
// `npm run test:agents`.
import { execFile } from "node:child_process";
import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { idle, settledBooks } from "../support/books.ts";
import { all } from "../support/event-stream.ts";
import { defaultAnswer, type ModelServer, startModelServer } from "../support/model-server/server.ts";
import { startSystem, type System } from "../support/system.ts";
import { until } from "../support/until.ts";

export interface RealAgent {
  /** With its version. */
  readonly package: string;
  /** The built-in profile that runs it. */
  readonly agent: string;
  /** The agent's name of the model. */
  readonly agentModel: string;
  /** The account's environment, and what has to be there before it starts. `folder` is removed at the end. */
  readonly environment: (folder: string, provider: ModelServer) => Promise<Readonly<Record<string, string>>>;
  /** Whether tokens come from the agent. */
  readonly usage: "reported" | "estimated";
  /** How many of the provider's 45 output tokens it reports. Default all. */
  readonly outputTokens?: number;
  /** Tools of its own that its model is offered at most. */
  readonly toolsMax: number;
  /** What its processes' command lines contain. */
  readonly process: string;
}

const model = "real";
const account = "real-1";
const tools = [
  {
    type: "function" as const,
    function: {
      name: "get_weather",
      description: "The weather in a city.",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];

export function describeRealAgent(agent: RealAgent): void {
  let folder: string;
  let provider: ModelServer;
  let system: System;

  beforeAll(async () => {
    folder = await realpath(await mkdtemp(join(tmpdir(), "drawbridge-agent-")));
    await promisify(execFile)("npm", ["install", "--prefix", folder, "--no-audit", "--no-fund", agent.package]);
    provider = await startModelServer();
    const env = await agent.environment(folder, provider);
    const path = [join(folder, "node_modules/.bin"), process.env["PATH"]].join(delimiter);
    system = await startSystem({
      environment: { PATH: path, ...env },
      configuration: {
        accounts: [
          {
            id: account,
            agent: agent.agent,
            models: { [model]: agent.agentModel },
            credits: 100,
            cost_per_request: 1,
            slots: 2,
            queue: 4,
            env: Object.fromEntries(Object.keys(env).map((name) => [name, { from_env: name }])),
          },
        ],
        prices: { [model]: { input: 3, output: 15 } },
      },
    });
  }, 300_000);

  afterAll(async () => {
    await system?.[Symbol.asyncDispose]();
    await provider?.[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true, maxRetries: 3 });
  });

  const print = (what: string, value: unknown) => {
    process.stdout.write(`${agent.package}, ${what}: ${JSON.stringify(value)}\n`);
  };
  /** A user of their own for each test. */
  const clientOf = async (user: string) => {
    const { key } = await system.admin.createUser(user, 10);
    return system.openai({ apiKey: key });
  };

  describe(agent.package, () => {
    it("answers whole", async () => {
      const client = await clientOf("whole");
      const answer = await client.chat.completions.create({
        model,
        messages: [{ role: "user", content: "Please say(Bonjour from a real agent)" }],
      });
      print("whole", { content: answer.choices[0]?.message.content, usage: answer.usage });
      expect(answer.choices[0]?.message.content).toBe("Bonjour from a real agent");
      expect(answer.choices[0]?.finish_reason).toBe("stop");
      if (agent.usage === "reported") {
        expect(answer.usage).toMatchObject({ prompt_tokens: 123, completion_tokens: agent.outputTokens ?? 45 });
      } else {
        expect(answer.usage?.completion_tokens).toBeGreaterThan(0);
      }
      const { usage } = await settledBooks(system.admin, "whole");
      print("ledger", usage[0]);
      expect(usage).toMatchObject([{ end: "finished", account, source: agent.usage }]);
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
      // Some agents drop the blank at the very end.
      const text = Array.from({ length: 20 }, (_, index) => `w${index} `).join("");
      expect(pieces.join("").trimEnd()).toBe(text.trimEnd());
      expect(pieces.length).toBeGreaterThan(1);
      expect(chunks.at(-1)?.usage?.completion_tokens).toBeGreaterThan(0);
    });

    it("hears instructions and earlier messages, and has few tools of its own", async () => {
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
      // An agent may ask its provider for more than the answer, a title for example: that need not have all of it.
      const parts = ["Answer in verse.", "My name is Ada.", "Hello Ada.", "What is my name?"];
      const about = provider.requests.filter((body) => JSON.stringify(body).includes("What is my name?"));
      const heard = about.find((body) => parts.every((part) => JSON.stringify(body).includes(part)));
      expect({ heard: heard !== undefined, about }).toMatchObject({ heard: true });
      const names = toolNames(heard?.["tools"]);
      print("its model heard", {
        bytes: JSON.stringify(heard).length,
        tools: names,
        requests: provider.requests.length,
      });
      expect(names.length).toBeLessThanOrEqual(agent.toolsMax);
    });

    it("calls a tool of the client, and goes on with the result in the same turn", async () => {
      const client = await clientOf("toolsmith");
      const before = provider.requests.length;
      const asked = [{ role: "user" as const, content: "Please call(get_weather, city=Oslo)" }];
      const first = await client.chat.completions.create({ model, tools, messages: asked });
      const [choice] = first.choices;
      print("calls", choice);

      expect(choice?.finish_reason).toBe("tool_calls");
      const [call] = choice?.message.tool_calls ?? [];
      if (!choice || call?.type !== "function") throw new Error("there is no call");
      expect(call.function.name).toBe("get_weather");
      expect(JSON.parse(call.function.arguments)).toEqual({ city: "Oslo" });
      const stream = await client.chat.completions.create({
        model,
        tools,
        stream: true,
        messages: [
          ...asked,
          choice.message,
          { role: "tool", tool_call_id: call.id, content: "rain in Oslo, 7 degrees" },
        ],
      });
      const chunks = await all(stream);
      const answer = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
      print("goes on", { answer, requests: provider.requests.length - before });
      expect(answer).toContain("The tools said");
      expect(answer).toContain("rain in Oslo");
      // The result came to the turn that called, and not as a transcript to another one.
      expect(JSON.stringify(provider.requests.at(-1))).not.toContain("RESULT OF TOOL CALL");
      const { usage } = await settledBooks(system.admin, "toolsmith");
      print("ledger", usage);
      expect(usage).toHaveLength(2);
    });

    it("continues a conversation in its session, with the new message only", async () => {
      const client = await clientOf("talker");
      const opening = [
        { role: "system" as const, content: "Be brief." },
        { role: "user" as const, content: "Please say(one)" },
      ];
      const first = await client.chat.completions.create({ model, messages: opening });
      const [choice] = first.choices;
      if (!choice) throw new Error("there is no answer");
      const second = await client.chat.completions.create({
        model,
        messages: [...opening, choice.message, { role: "user", content: "Please say(two)" }],
      });
      print("continues", { first: choice.message.content, second: second.choices[0]?.message.content });
      expect(second.choices[0]?.message.content).toBe("two");
      const heard = provider.requests.map((body) => JSON.stringify(body)).filter((body) => body.includes("say(two)"));
      // The agent's own history, and no transcript of ours.
      expect(heard.some((body) => body.includes("say(one)"))).toBe(true);
      for (const body of heard) expect(body).not.toContain("The conversation so far");
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
      await until("the agent hangs up on its provider", () => provider.abandoned() > before);
      await idle(system.admin);
      const { usage } = await settledBooks(system.admin, "leaver");
      print("cancelled", { pieces, ledger: usage[0] });
      expect(usage).toMatchObject([{ end: "cancelled", account }]);
      expect(usage[0]?.output_tokens).toBeGreaterThanOrEqual(5);

      const next = await system
        .openai()
        .chat.completions.create({ model, messages: [{ role: "user", content: "say(still here)" }] });
      print("the next one", next.choices[0]?.message.content);
      expect(next.choices[0]?.message.content).toBe("still here");
    });

    it("leaves no process", async () => {
      const agents = (await system.processes()).filter((each) => each.command.includes(agent.process));
      print("processes before the end", agents.length);
      expect(agents.length).toBeGreaterThan(0);
      expect((await system.stop()).code).toBe(0);
      await system.gone();
      for (const { pid } of agents) expect(() => process.kill(pid, 0)).toThrow();
    });
  });
}

/** Names of the tools in a request's body, in whichever of the APIs. */
function toolNames(tools: unknown): string[] {
  if (!Array.isArray(tools)) return [];
  return (tools as Record<string, unknown>[]).flatMap((tool) => {
    const declarations = tool["functionDeclarations"];
    if (Array.isArray(declarations)) return toolNames(declarations);
    const inner = tool["function"] as Record<string, unknown> | undefined;
    return [String(inner?.["name"] ?? tool["name"] ?? tool["type"])];
  });
}
