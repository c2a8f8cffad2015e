// Clients that go away: the agent stops, its place is free again, and what was produced is paid.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { UsageRow } from "../../support/admin.ts";
import { idle, settledBooks } from "../../support/books.ts";
import { account, ask, fleet, model } from "../../support/fleet.ts";
import type { ServingSystem, StartServing } from "../../support/serving-system.ts";
import { until } from "../../support/until.ts";

const configuration = fleet({
  accounts: [account("a-1", { slots: 1, queue: 4 })],
  prices: { [model]: { input: 1, output: 100 } },
  worker: { cancel_grace: "500ms", terminate_grace: "500ms" },
});

const endless = (fields: object = {}) => ask({ do: "answer", chunks: 100_000, pause_ms: 10, ...fields });

export function disconnectScenarios(start: StartServing): void {
  let system: ServingSystem;

  beforeAll(async () => {
    system = await start(configuration);
  });

  afterAll(async () => {
    await system?.[Symbol.asyncDispose]();
  });

  /** A user of their own, so that each test has a ledger of its own. */
  async function clientOf(user: string) {
    const { key } = await system.admin.createUser(user, 1_000);
    return system.openai({ apiKey: key });
  }

  const slots = async () => (await system.admin.workers())[0];

  /** The one entry of a user's ledger. */
  async function onlyEntry(user: string): Promise<UsageRow> {
    const { usage } = await settledBooks(system.admin, user);
    expect(usage).toHaveLength(1);
    return usage[0] as UsageRow;
  }

  /** The tag of the agent's process, which no other process has. */
  async function agentProcess(): Promise<string> {
    const answer = await system.openai().chat.completions.create({ model, messages: ask({ do: "environment" }) });
    const { env } = JSON.parse(answer.choices[0]?.message.content ?? "") as { env: Record<string, string> };
    return env["DRAWBRIDGE_AGENT"] ?? "";
  }

  describe("a client that leaves a stream", () => {
    it("stops the agent, which is kept, and pays for what was produced", async () => {
      const before = await agentProcess();
      const client = await clientOf("leaver");
      const stream = await client.chat.completions.create({ model, stream: true, messages: endless() });
      let seen = 0;
      for await (const chunk of stream) {
        if (chunk.choices[0]?.delta.content) seen += 1;
        if (seen === 5) break;
      }
      await idle(system.admin);
      const entry = await onlyEntry("leaver");
      expect(entry).toMatchObject({ end: "cancelled", model, account: "a-1", source: "estimated", credits: 1_000 });
      expect(entry.output_tokens).toBeGreaterThanOrEqual(seen);
      // Far below what it would have said: it stopped.
      expect(entry.output_tokens).toBeLessThan(10_000);
      expect(entry.cost).toBe(entry.input_tokens + entry.output_tokens * 100);
      expect(await agentProcess()).toBe(before);
    });

    it("gets an agent killed that does not listen, and the next client has another one", async () => {
      const before = await agentProcess();
      const client = await clientOf("leaver-of-the-deaf");
      const messages = ask({ do: "ignore_cancel", chunks: 3 });
      const stream = await client.chat.completions.create({ model, stream: true, messages });
      for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
      expect(await onlyEntry("leaver-of-the-deaf")).toMatchObject({ end: "cancelled" });
      expect(await agentProcess()).not.toBe(before);
    });
  });

  describe("a client that leaves before anything came", () => {
    it.each([true, false])("pays for no output, and the slot is free again (stream: %s)", async (stream) => {
      const user = `impatient-${stream}`;
      const client = await clientOf(user);
      const leaving = new AbortController();
      // What is told of the slot may still be about the prompt before.
      await idle(system.admin);
      const asked = client.chat.completions.create(
        { model, stream, messages: ask({ do: "hang" }) },
        { signal: leaving.signal },
      );
      const refused = expect(asked).rejects.toThrow();
      await until("the slot is taken", async () => (await slots())?.available_slots === 0);
      leaving.abort();
      await refused;
      await idle(system.admin);
      const entry = await onlyEntry(user);
      expect(entry).toMatchObject({ end: "cancelled", output_tokens: 0, credits: 0 });
      expect(entry.cost).toBe(entry.input_tokens);
    });

    it("frees its place in the queue", async () => {
      const first = await clientOf("first");
      const second = await clientOf("second");
      const running = await first.chat.completions.create({ model, stream: true, messages: endless() });
      const leaving = new AbortController();
      const refused = expect(
        second.chat.completions.create({ model, messages: ask({ do: "answer" }) }, { signal: leaving.signal }),
      ).rejects.toThrow();
      // The only slot is taken: whoever is let in waits.
      await until("the second one waits", async () => (await system.admin.user("second")).held > 0);
      leaving.abort();
      await refused;
      await until("nothing of it is held", async () => (await system.admin.user("second")).held === 0);
      running.controller.abort();
      await idle(system.admin);
      expect(await onlyEntry("second")).toMatchObject({ end: "cancelled", cost: 0, credits: 0 });
    });
  });

  describe("many clients that leave", () => {
    it("at any moment leave nothing running and nothing held", async () => {
      const client = await clientOf("hasty");
      for (let round = 0; round < 300; round++) {
        const leaving = new AbortController();
        const asked = client.chat.completions.create(
          { model, stream: round % 2 === 0, messages: ask({ do: "hang" }) },
          { signal: leaving.signal },
        );
        const refused = expect(asked).rejects.toThrow();
        // Before it is let in, while it gets its lease, while the worker takes it, and after.
        await new Promise((resolve) => setTimeout(resolve, round % 20));
        leaving.abort();
        await refused;
      }
      await idle(system.admin);
      const { usage } = await settledBooks(system.admin, "hasty");
      for (const entry of usage) expect(entry).toMatchObject({ end: "cancelled", output_tokens: 0, credits: 0 });
    });

    it("leave nothing running and nothing held", async () => {
      const client = await clientOf("crowd");
      const visits = Array.from({ length: 20 }, async (_, index) => {
        let seen = 0;
        try {
          const messages = endless({ delay_ms: (index % 4) * 20 });
          const stream = await client.chat.completions.create({ model, stream: true, messages });
          for await (const chunk of stream) if (chunk.choices[0]?.delta.content && ++seen > index % 5) break;
        } catch {
          // Over the queue's limit: refused, which is an end as well.
        }
      });
      await Promise.all(visits);
      await idle(system.admin);
      const { usage } = await settledBooks(system.admin, "crowd");
      for (const entry of usage.filter((row) => row.account !== "")) expect(entry.end).toBe("cancelled");
      expect((await agentProcess()).length).toBeGreaterThan(0);
    });
  });
}
