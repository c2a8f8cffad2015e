// What a newcomer does: start, send a request, stop, start again.
import { rm } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createAdmin } from "../support/admin.ts";
import { ask, fleet, model, words } from "../support/fleet.ts";
import { createSystemFolder, startSystem, type System } from "../support/system.ts";
import { until } from "../support/until.ts";

async function streamedAnswer(system: System, apiKey: string, model: string, content = "Hello!"): Promise<string> {
  const stream = await system.openai({ apiKey }).chat.completions.create({
    model,
    stream: true,
    messages: [{ role: "user", content }],
  });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
  return text;
}

describe("without any configuration", () => {
  const unset = { DRAWBRIDGE_API_KEY: undefined, DRAWBRIDGE_ADMIN_KEY: undefined };
  let folder: string;
  let apiKey: string;
  let adminKey: string;

  beforeAll(async () => {
    folder = await createSystemFolder();
  });

  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  it("the first request is answered, by following what the start printed", async () => {
    await using system = await startSystem({ folder, environment: unset });
    ({ apiKey, adminKey } = system);
    const ready = await until(
      "the first request is printed",
      () => /Ready\.[\s\S]*curl[\s\S]*Ctrl-C/.exec(system.printed())?.[0],
    );
    const model = /"model": ?"([^"]+)"/.exec(ready)?.[1] ?? "";
    expect(system.printed()).toContain("demo agent");
    expect(ready).toContain(apiKey);
    expect(await streamedAnswer(system, apiKey, model)).not.toBe("");
    expect((await system.stop()).code).toBe(0);
    await system.gone();
  });

  it("a second start knows the key and the past, and prints no secret again", async () => {
    await using system = await startSystem({ folder, environment: unset });
    expect(await streamedAnswer(system, apiKey, "demo")).not.toBe("");
    expect(system.printed()).not.toContain(apiKey);
    expect(system.printed()).not.toContain(adminKey);
    await using admin = createAdmin(system.url, adminKey);
    const rows = await until("both requests are in the ledger", async () => {
      const found = await admin.usage("default");
      return found.length === 2 && found;
    });
    expect(rows.map((row) => row.end)).toEqual(["finished", "finished"]);
  });
});

describe("with a drawbridge.yaml that names an ACP command", () => {
  it("that agent answers", async () => {
    await using system = await startSystem({ configuration: fleet() });
    expect(await streamedAnswer(system, system.apiKey, model, ask({ do: "answer", chunks: 4 })[0]?.content)).toBe(
      words(4),
    );
    expect(system.printed()).not.toContain("demo agent");
  });

  it.each(["SIGTERM", "SIGINT"] as const)(
    "%s in the middle of a stream lets it finish, and leaves no process",
    async (signal) => {
      await using system = await startSystem({ configuration: fleet() });
      const stream = await system.openai().chat.completions.create({
        model,
        stream: true,
        messages: ask({ do: "answer", chunks: 30, pause_ms: 50 }),
      });
      let text = "";
      let finish: string | null | undefined;
      let ended: Promise<{ code: number | null }> | undefined;
      for await (const chunk of stream) {
        text += chunk.choices[0]?.delta.content ?? "";
        finish = chunk.choices[0]?.finish_reason ?? finish;
        ended ??= system.stop(signal);
      }
      expect(text).toBe(words(30));
      expect(finish).toBe("stop");
      expect((await ended)?.code).toBe(0);
      await system.gone();
    },
  );

  it("a second signal ends it at once, streams or not", async () => {
    await using system = await startSystem({ configuration: fleet() });
    const stream = await system.openai().chat.completions.create({
      model,
      stream: true,
      messages: ask({ do: "answer", chunks: 10_000, pause_ms: 50 }),
    });
    const reading = (async () => {
      for await (const chunk of stream) if (chunk.choices[0]?.delta.content) system.signal("SIGINT");
    })();
    await expect(reading).rejects.toThrow();
    await system.stop("SIGINT");
    await system.gone();
  });

  it("kill -9 of it leaves no worker and no agent", async () => {
    await using system = await startSystem({ configuration: fleet() });
    const stream = await system.openai().chat.completions.create({
      model,
      stream: true,
      messages: ask({ do: "answer", chunks: 10_000, pause_ms: 20 }),
    });
    const reading = (async () => {
      for await (const chunk of stream) if (chunk.choices[0]?.delta.content) await system.stop("SIGKILL");
    })();
    await expect(reading).rejects.toThrow();
    await system.gone();
  });
});
