// A start without configuration on a machine where agents are installed.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ask, faultyAgent } from "../support/fleet.ts";
import { startSystem, type System } from "../support/system.ts";

let folder: string;
let system: System;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "drawbridge-found-"));
  for (const name of ["qwen", "claude-agent-acp"]) {
    await writeFile(join(folder, name), `#!/bin/sh\nexec ${process.execPath} ${faultyAgent}\n`, { mode: 0o755 });
  }
  const path = [folder, dirname(process.execPath), "/usr/bin", "/bin"].join(delimiter);
  system = await startSystem({
    environment: { PATH: path, ANTHROPIC_API_KEY: "sk-ant-of-this-machine", OPENAI_API_KEY: undefined },
  });
});

afterAll(async () => {
  await system?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

interface Seen {
  readonly env: Readonly<Record<string, string>>;
}

describe("agents of this machine", () => {
  it("get an account each, and no demo agent beside them", async () => {
    const accounts = await system.cli<{ id: string; agent: string }[]>("account", "list");
    expect(accounts.map(({ id, agent }) => `${id}: ${agent}`).sort()).toEqual(["claude: claude", "qwen: qwen"]);
  });

  it("answer, with the credentials of the environment that are theirs", async () => {
    const environmentOf = async (model: string) => {
      const messages = ask({ do: "environment" });
      const answer = await system.openai().chat.completions.create({ model, messages });
      return (JSON.parse(answer.choices[0]?.message.content ?? "") as Seen).env;
    };
    const claude = await environmentOf("claude");
    expect(claude["ANTHROPIC_API_KEY"]).toBe("sk-ant-of-this-machine");
    expect(claude["HOME"]).toContain(system.folder);
    expect((await environmentOf("qwen"))["ANTHROPIC_API_KEY"]).toBeUndefined();
  });
});
