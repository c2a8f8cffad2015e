// Chat completions as the official SDK reads them, and as bytes.
import { NotFoundError } from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { all, allEvents, dataOf } from "../../support/event-stream.ts";
import { ask, fleet, model, words } from "../../support/fleet.ts";
import type { ServingSystem, StartServing } from "../../support/serving-system.ts";

/** As ACP agents report it: cached tokens stand outside of the input. */
const usage = { inputTokens: 90, cachedReadTokens: 10, outputTokens: 20, totalTokens: 120 };
const openaiUsage = { prompt_tokens: 100, completion_tokens: 20, total_tokens: 120 };

export function chatScenarios(start: StartServing): void {
  let system: ServingSystem;

  beforeAll(async () => {
    system = await start(fleet());
  });

  afterAll(async () => {
    await system?.[Symbol.asyncDispose]();
  });

  describe("a whole answer", () => {
    it("has the agent's text, its end and its usage", async () => {
      const before = Math.floor(Date.now() / 1000);
      const answer = await system
        .openai()
        .chat.completions.create({ model, messages: ask({ do: "answer", chunks: 5, usage }) });
      expect(answer).toMatchObject({
        object: "chat.completion",
        model,
        choices: [{ index: 0, message: { role: "assistant", content: words(5) }, finish_reason: "stop" }],
        usage: { ...openaiUsage, prompt_tokens_details: { cached_tokens: 10 } },
      });
      expect(answer.id).toMatch(/^chatcmpl-/);
      expect(answer.created).toBeGreaterThanOrEqual(before);
      expect(answer).not.toHaveProperty("error");
    });

    it("is counted where the agent reports no usage", async () => {
      const answer = await system
        .openai()
        .chat.completions.create({ model, messages: ask({ do: "answer", chunks: 5 }) });
      expect(answer.usage?.prompt_tokens).toBeGreaterThan(0);
      expect(answer.usage?.completion_tokens).toBeGreaterThan(0);
      expect(answer.usage?.total_tokens).toBe(
        (answer.usage?.prompt_tokens ?? 0) + (answer.usage?.completion_tokens ?? 0),
      );
    });

    it("ends before a stop sequence", async () => {
      const messages = ask({ do: "answer", text: "one two three ", chunks: 3 });
      const answer = await system.openai().chat.completions.create({ model, messages, stop: "three" });
      expect(answer.choices[0]?.message.content).toBe("one two ");
      expect(answer.choices[0]?.finish_reason).toBe("stop");
    });

    it.each(["max_tokens", "max_completion_tokens"] as const)("ends at %s", async (limit) => {
      const messages = ask({ do: "answer", chunks: 1000, text: "word " });
      const answer = await system.openai().chat.completions.create({ model, messages, [limit]: 7 });
      expect(answer.choices[0]?.finish_reason).toBe("length");
      expect(answer.choices[0]?.message.content).toMatch(/^(?:word ?)+$/);
      expect(answer.usage?.completion_tokens).toBeLessThanOrEqual(7);
      expect(answer.usage?.completion_tokens).toBeGreaterThan(0);
    });

    it("of a refusal ends as filtered content", async () => {
      const messages = ask({ do: "answer", chunks: 1, stop_reason: "refusal" });
      const answer = await system.openai().chat.completions.create({ model, messages });
      expect(answer.choices[0]?.finish_reason).toBe("content_filter");
    });

    it("hears earlier messages and instructions", async () => {
      const answer = await system.openai().chat.completions.create({
        model,
        messages: [
          { role: "system", content: "Speak like a pirate." },
          { role: "user", content: "My name is Ada." },
          { role: "assistant", content: "Ahoy, Ada!" },
          { role: "user", content: [{ type: "text", text: 'What is my name? {"do":"echo"}' }] },
        ],
      });
      const heard = answer.choices[0]?.message.content ?? "";
      for (const part of ["Speak like a pirate.", "My name is Ada.", "Ahoy, Ada!", "What is my name?"])
        expect(heard).toContain(part);
    });
  });

  describe("a streamed answer", () => {
    it("has one id, one time and one model, begins with the role and ends with the reason", async () => {
      const stream = await system
        .openai()
        .chat.completions.create({ model, stream: true, messages: ask({ do: "answer", chunks: 6 }) });
      const chunks = await all(stream);
      expect(new Set(chunks.map((chunk) => `${chunk.id} ${chunk.created} ${chunk.model}`)).size).toBe(1);
      expect(chunks[0]?.choices[0]?.delta).toMatchObject({ role: "assistant", content: "" });
      expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("")).toBe(words(6));
      expect(chunks.map((chunk) => chunk.choices[0]?.finish_reason)).toEqual([
        ...chunks.slice(1).map(() => null),
        "stop",
      ]);
      expect(chunks.at(-1)?.choices[0]?.delta).toEqual({});
      for (const chunk of chunks) {
        expect(chunk.object).toBe("chat.completion.chunk");
        expect(chunk).not.toHaveProperty("usage");
        expect(chunk).not.toHaveProperty("error");
      }
    });

    it("with include_usage ends with the usage, which is null before", async () => {
      const stream = await system.openai().chat.completions.create({
        model,
        stream: true,
        stream_options: { include_usage: true },
        messages: ask({ do: "answer", chunks: 3, usage }),
      });
      const chunks = await all(stream);
      expect(chunks.at(-1)).toMatchObject({ choices: [], usage: openaiUsage });
      expect(chunks.slice(0, -1).map((chunk) => chunk.usage)).toEqual(chunks.slice(0, -1).map(() => null));
      expect(chunks.at(-2)?.choices[0]?.finish_reason).toBe("stop");
    });

    it("ends at a stop sequence that is split between chunks, of which nothing is shown", async () => {
      const messages = ask({ do: "answer", chunks: 3, text: "abcST" });
      const stream = await system.openai().chat.completions.create({ model, stream: true, messages, stop: ["STab"] });
      const chunks = await all(stream);
      expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("")).toBe("abc");
      expect(chunks.at(-1)?.choices[0]?.finish_reason).toBe("stop");
    });

    it("keeps characters whole that the agent splits", async () => {
      const messages = ask({ do: "split_surrogates" });
      const stream = await system.openai().chat.completions.create({ model, stream: true, messages });
      const pieces = (await all(stream)).map((chunk) => chunk.choices[0]?.delta.content ?? "");
      expect(pieces.join("")).toBe("a😀b😀c");
      for (const piece of pieces) expect(piece.isWellFormed()).toBe(true);
    });

    it("comes from an agent that takes line breaks of Unicode for the ends of its lines", async () => {
      const said = "one\u2028two\u2029three";
      const stream = await system
        .openai()
        .chat.completions.create({ model, stream: true, messages: ask({ do: "answer", chunks: 1, text: said }) });
      const pieces = (await all(stream)).map((chunk) => chunk.choices[0]?.delta.content ?? "");
      expect(pieces.join("")).toBe(said);
    });

    it("is framed byte for byte as clients expect", async () => {
      const response = await system.request("/v1/chat/completions", {
        body: { model, stream: true, messages: ask({ do: "answer", chunks: 4, pause_ms: 20 }) },
      });
      expect(response.status).toBe(200);
      expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
      expect(response.headers.get("cache-control")).toBe("no-cache");
      expect(response.headers.get("x-accel-buffering")).toBe("no");
      expect(response.headers.get("content-encoding")).toBeNull();
      const events = await allEvents(response);
      expect(events.at(-1)).toBe("data: [DONE]\n\n");
      for (const event of events.slice(0, -1)) {
        expect(event).toMatch(/^data: \{[^\n]*\}\n\n$/);
        const chunk = dataOf<{ choices: { index: number; finish_reason: unknown }[] }>(event);
        expect(Object.keys(chunk).sort()).toEqual(["choices", "created", "id", "model", "object"]);
        expect(chunk.choices).toHaveLength(1);
        expect(chunk.choices[0]?.index).toBe(0);
        expect(chunk.choices[0]).toHaveProperty("finish_reason");
      }
    });
  });

  describe("every answer", () => {
    const limits = ["limit", "remaining", "reset"].flatMap((kind) => [
      `x-ratelimit-${kind}-requests`,
      `x-ratelimit-${kind}-tokens`,
    ]);

    it.each([
      ["a whole answer", { body: { model, messages: ask({ do: "answer" }) } }],
      ["a streamed answer", { body: { model, stream: true, messages: ask({ do: "answer" }) } }],
      ["a refused one", { body: { model: "unheard-of", messages: ask({ do: "answer" }) } }],
    ])("carries its id, its time and the limits: %s", async (_, request) => {
      const response = await system.request("/v1/chat/completions", request);
      await response.text();
      expect(response.headers.get("x-request-id")).toMatch(/^req_/);
      expect(response.headers.get("openai-processing-ms")).toMatch(/^\d+$/);
      for (const name of limits) expect([name, response.headers.get(name)]).not.toContain(null);
      for (const name of limits.filter((each) => !each.includes("reset")))
        expect(response.headers.get(name)).toMatch(/^\d+$/);
      for (const name of limits.filter((each) => each.includes("reset"))) {
        expect(response.headers.get(name)).toMatch(/^(?:\d+h)?(?:\d+m)?(?:\d+(?:\.\d+)?s)?(?:\d+(?:\.\d+)?ms)?$/);
        expect(response.headers.get(name)).not.toBe("");
      }
    });

    it("carries an id where there is no key, and another one each time", async () => {
      const ids = [];
      for (const path of ["/v1/models", "/v1/nothing", "/v1/models"]) {
        const response = await system.request(path, { apiKey: null });
        await response.text();
        ids.push(response.headers.get("x-request-id"));
      }
      expect(new Set(ids).size).toBe(3);
      for (const id of ids) expect(id).toMatch(/^req_/);
    });
  });

  describe("models", () => {
    it("are listed, with all four fields", async () => {
      const models = await all(await system.openai().models.list());
      expect(models).toEqual([
        { id: model, object: "model", created: expect.any(Number), owned_by: expect.any(String) },
      ]);
    });

    it("are found by an id with slashes, encoded or not", async () => {
      expect(await system.openai().models.retrieve(model)).toMatchObject({ id: model, object: "model" });
      expect(await (await system.request(`/v1/models/${model}`)).json()).toMatchObject({ id: model });
    });

    it("that are not there are not found", async () => {
      const missing = system.openai().models.retrieve("test/model-2");
      await expect(missing).rejects.toBeInstanceOf(NotFoundError);
      await expect(missing).rejects.toMatchObject({ code: "model_not_found" });
    });

    it("are listed for a key that may use only some of them", async () => {
      await system.admin.createUser("narrow", 1);
      const { key } = await system.admin.createKey("narrow", { models: ["another"] });
      expect(await all(await system.openai({ apiKey: key }).models.list())).toEqual([]);
    });
  });
}
