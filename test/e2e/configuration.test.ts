// The configuration: what is read from where, and what is refused, with the path of the field.
import { once } from "node:events";
import { rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { account, ask, fleet, model } from "../support/fleet.ts";
import { createSystemFolder, runCommand, startSystem } from "../support/system.ts";

describe("a file of another name", () => {
  it("holds for the workers, too", async () => {
    const configuration = fleet({ worker: { first_token_timeout: "200ms" } });
    await using system = await startSystem({ file: "other.yaml", configuration });
    const response = await system.request("/v1/chat/completions", { body: { model, messages: ask({ do: "hang" }) } });
    expect(response.status).toBe(504);
  });
});

describe("the environment and the flags", () => {
  it("win over the file, the flags over both", async () => {
    const configuration = fleet({ state: "sqlite:of-the-file.db", grace: "1s" });
    await using system = await startSystem({
      configuration,
      environment: { DRAWBRIDGE_STATE: "sqlite:of-the-environment.db" },
    });
    expect(system.printed()).toContain("of-the-environment.db");
    await using other = await startSystem({
      configuration,
      environment: { DRAWBRIDGE_STATE: "sqlite:of-the-environment.db" },
      flags: ["--state", "sqlite:of-the-flag.db"],
    });
    expect(other.printed()).toContain("of-the-flag.db");
  });
});

describe("a start that cannot be", () => {
  let folder: string;

  beforeAll(async () => {
    folder = await createSystemFolder();
  });

  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  async function refusedStart(
    fields: Record<string, unknown> | string,
    environment: Record<string, string> = {},
  ): Promise<string> {
    const file = join(folder, "wrong.yaml");
    await writeFile(file, typeof fields === "string" ? fields : stringify({ listen: "127.0.0.1:0", ...fields }));
    const words = ["up", "--config", file];
    const { code, errors } = await runCommand(words, folder, environment);
    expect(code).not.toBe(0);
    expect(code).not.toBeNull();
    expect(errors).not.toMatch(/\bat \S+ \(/);
    return errors;
  }

  it.each([
    ["an unknown field", fleet({ liste: "127.0.0.1:1" }), /"liste"/],
    ["a wrong address", fleet({ listen: "everywhere" }), /listen: .*127\.0\.0\.1:8080/],
    ["a wrong field of an account", fleet({ accounts: [account("a-1", { slots: "two" })] }), /accounts\[0\]\.slots/],
    ["an unknown field of an account", fleet({ accounts: [account("a-1", { slot: 2 })] }), /accounts\[0\].*"slot"/],
    ["an account without models", fleet({ accounts: [account("a-1", { models: {} })] }), /accounts\[0\]\.models/],
    ["two accounts of one id", fleet({ accounts: [account("a-1"), account("a-1")] }), /accounts.*a-1/s],
    ["an unknown agent", fleet({ accounts: [account("a-1", { agent: "unheard-of" })] }), /unheard-of/],
    ["a negative price", fleet({ prices: { [model]: { input: -1, output: 1 } } }), /prices/],
    ["a wrong duration", fleet({ worker: { idle_timeout: "soon" } }), /worker\.idle_timeout: .*30s/],
    ["no YAML", "accounts: [", /YAML/],
    ["a wrong store", fleet({ state: "oracle://somewhere" }), /oracle|state/],
  ])("is refused with the path of the field: %s", async (_, fields, message) => {
    expect(await refusedStart(fields)).toMatch(message);
  });

  it("names the file that is not there", async () => {
    const { code, errors } = await runCommand(["up", "--config", "absent.yaml"], folder, {});
    expect(code).not.toBe(0);
    expect(errors).toContain("absent.yaml");
  });

  it("names the port that is in use, and leaves no process", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    try {
      const errors = await refusedStart(fleet(), { DRAWBRIDGE_LISTEN: `127.0.0.1:${port}` });
      expect(errors).toContain(String(port));
      expect(errors).toMatch(/in use/);
    } finally {
      server.close();
    }
  });
});
