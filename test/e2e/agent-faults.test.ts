// Agents that break: before the first content the client notices nothing where another try helps; after it, an error event ends the stream.
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { APIError } from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ApiErrorBody, expectApiError, expectErrorKeys } from "../support/api-error.ts";
import type { UsageRow } from "../support/admin.ts";
import { idle, settledBooks } from "../support/books.ts";
import { allEvents, dataOf } from "../support/event-stream.ts";
import { account, ask, deafWrapper, faultyAgent, fleet, type Instruction, words } from "../support/fleet.ts";
import { createSystemFolder, startSystem, type System } from "../support/system.ts";
import { until } from "../support/until.ts";

let system: System;
let folder: string;

const startsFile = () => join(folder, "starts");

beforeAll(async () => {
  folder = await createSystemFolder();
  const noted = ["/bin/sh", "-c", 'echo start >> "$0"; exec "$@"', startsFile(), process.execPath, faultyAgent];
  system = await startSystem({
    folder,
    configuration: fleet({
      agents: {
        faulty: { command: [process.execPath, faultyAgent] },
        noted: { command: noted },
        wrapped: { command: [deafWrapper, process.execPath, faultyAgent] },
      },
      accounts: [
        account("single", { agent: "noted", models: { single: "m" } }),
        // The first one is preferred for its credits; the second one is a program that always answers.
        account("pair-1", { models: { pair: "m" }, credits: 1_000_000 }),
        account("pair-2", { models: { pair: "demo" }, agent: "demo", credits: 100 }),
        account("various", { models: { various: "m" } }),
        account("wrapped", { agent: "wrapped", models: { wrapped: "m" } }),
      ],
      worker: { first_token_timeout: "2s", idle_timeout: "2s", cancel_grace: "500ms", terminate_grace: "500ms" },
    }),
  });
});

afterAll(async () => {
  await system[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

let users = 0;

/** A client of a new user, and that user's one ledger entry afterwards. */
async function visitor() {
  const user = `visitor-${++users}`;
  const { key } = await system.admin.createUser(user, 10);
  return {
    client: system.openai({ apiKey: key }),
    post: (model: string, instruction: Instruction, stream = false) =>
      system.request("/v1/chat/completions", { apiKey: key, body: { model, stream, messages: ask(instruction) } }),
    entry: async (): Promise<UsageRow> => {
      const { usage } = await settledBooks(system.admin, user);
      expect(usage).toHaveLength(1);
      return usage[0] as UsageRow;
    },
  };
}

async function answered(model: string, instruction: Instruction): Promise<string> {
  const answer = await system.openai().chat.completions.create({ model, messages: ask(instruction) });
  return answer.choices[0]?.message.content ?? "";
}

const starts = async () => (await readFile(startsFile(), "utf8")).trim().split("\n").length;

describe("an agent that dies before content", () => {
  it("goes unnoticed where another account can answer", async () => {
    const { client, entry } = await visitor();
    const stream = await client.chat.completions.create({ model: "pair", stream: true, messages: ask({ do: "die" }) });
    let text = "";
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    expect(text).not.toBe("");
    expect(await entry()).toMatchObject({ account: "pair-2", end: "finished" });
  });

  it("gets a second try on the only account, and then fails with 502 and costs nothing", async () => {
    const before = await starts();
    const { post, entry } = await visitor();
    const response = await post("single", { do: "die" }, true);
    await expectApiError(response, { status: 502, type: "server_error", code: "upstream_error" });
    // Each process that died was replaced.
    await until("both processes are replaced", async () => (await starts()) === before + 2);
    expect(await entry()).toMatchObject({ cost: 0, credits: 0, output_tokens: 0, end: "failed_before_content" });
    expect(await answered("single", { do: "answer" })).toBe(words(3));
  });
});

describe("a failure after content", () => {
  it.each([
    ["the agent dies", { do: "die", chunks: 2 }, "upstream_error", "failed_after_content"],
    [
      "the agent answers with an error",
      { do: "error", chunks: 2, message: "broken" },
      "upstream_error",
      "failed_after_content",
    ],
    [
      "the agent dies and a child of it holds the pipe",
      { do: "hold_stdout", chunks: 2 },
      "upstream_error",
      "failed_after_content",
    ],
    ["the agent falls silent", { do: "hang", chunks: 2 }, "timeout", "timeout"],
  ] satisfies [string, Instruction, string, string][])(
    "%s: an error event ends the stream",
    async (_, instruction, code, end) => {
      const { post, entry } = await visitor();
      const response = await post("various", instruction, true);
      expect(response.status).toBe(200);
      const events = await allEvents(response);
      const text = events.map(
        (event) => dataOf<{ choices?: { delta: { content?: string } }[] }>(event).choices?.[0]?.delta.content ?? "",
      );
      expect(text.join("")).toBe(words(2));
      const last = dataOf<ApiErrorBody>(events.at(-1) ?? "");
      expectErrorKeys(last);
      expect(last.error).toMatchObject({ type: "server_error", code });
      const row = await entry();
      expect(row).toMatchObject({ end, credits: 1_000 });
      expect(row.output_tokens).toBeGreaterThan(0);
    },
  );

  it("is an APIError for the SDK, whatever came before", async () => {
    const { client } = await visitor();
    const stream = await client.chat.completions.create({
      model: "various",
      stream: true,
      messages: ask({ do: "die", chunks: 2 }),
    });
    let text = "";
    const reading = (async () => {
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    })();
    await expect(reading).rejects.toBeInstanceOf(APIError);
    expect(text).toBe(words(2));
  });
});

describe("an agent that never begins", () => {
  it("ends with 504, and costs nothing", async () => {
    const { post, entry } = await visitor();
    await expectApiError(await post("various", { do: "hang" }, true), {
      status: 504,
      type: "server_error",
      code: "timeout",
    });
    expect(await entry()).toMatchObject({ cost: 0, end: "failed_before_content" });
  });

  it("that ends without a word is a failure", async () => {
    const { post, entry } = await visitor();
    await expectApiError(await post("various", { do: "empty" }), {
      status: 502,
      type: "server_error",
      code: "upstream_error",
    });
    expect(await entry()).toMatchObject({ cost: 0, end: "failed_before_content" });
  });
});

describe("an agent that writes badly", () => {
  it("noise between its messages is passed over", async () => {
    expect(await answered("various", { do: "noise" })).toBe(words(3));
  });

  it("a line of 3 MB arrives whole", async () => {
    expect(await answered("various", { do: "long_line", bytes: 3_000_000 })).toBe("x".repeat(3_000_000) + words(3));
  });

  it("characters that are split between writes arrive whole", async () => {
    const text = "Grüße, 漢字, 👩‍👩‍👧‍👦 — ∀x∈ℝ";
    expect(await answered("various", { do: "split_utf8", text })).toBe(text);
  });

  it("updates after its end reach nobody", async () => {
    expect(await answered("various", { do: "late" })).toBe(words(3));
    expect(await answered("various", { do: "answer", text: "clean", chunks: 1 })).toBe("clean");
  });
});

describe("an agent behind a wrapper that does not forward signals", () => {
  it("answers, is stopped when its client leaves, and is killed with everything it started", async () => {
    expect(await answered("wrapped", { do: "spawn" })).toBe(words(3));
    const { client, entry } = await visitor();
    const messages = ask({ do: "ignore_cancel", chunks: 2 });
    const stream = await client.chat.completions.create({ model: "wrapped", stream: true, messages });
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
    expect(await entry()).toMatchObject({ end: "cancelled" });
    expect(await answered("wrapped", { do: "answer" })).toBe(words(3));
  });
});

describe("after all this", () => {
  it("every slot is free, and the end leaves no process", async () => {
    await idle(system.admin);
    expect((await system.stop()).code).toBe(0);
    await system.gone();
  });
});
