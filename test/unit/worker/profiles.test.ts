import { create } from "@bufbuild/protobuf";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { AgentSpecSchema } from "#gen/drawbridge/v1/account";
import {
  type AccountFolders,
  baseEnvironment,
  createAccountFolders,
} from "../../../services/worker/process/environment.ts";
import { isolated } from "../../../services/worker/process/isolation.ts";
import { builtInAgents, detectableAgents, findProfile } from "../../../services/worker/profiles/index.ts";
import type { StartContext } from "../../../services/worker/profiles/profile.ts";

const directories: string[] = [];
afterEach(async () => {
  for (const directory of directories.splice(0)) await rm(directory, { recursive: true, force: true });
});

async function folders(home?: string): Promise<AccountFolders> {
  const directory = await mkdtemp(join(tmpdir(), "drawbridge-profile-"));
  directories.push(directory);
  return await createAccountFolders(directory, "a", home);
}

async function context(values: Record<string, string> = {}): Promise<StartContext> {
  return { folders: await folders(values["HOME"]), host: { PATH: "/nowhere" }, values, model: "m" };
}

const find = (name: string, agents: { name: string; command: string[] }[] = []) =>
  findProfile(name, { agents: agents.map((agent) => create(AgentSpecSchema, agent)), folder: "/" });

describe("the catalogue", () => {
  it("has every agent that can be found on a machine", () => {
    for (const { agent, binaries, models } of detectableAgents) {
      expect(builtInAgents).toContain(agent);
      expect(binaries.length).toBeGreaterThan(0);
      expect(Object.keys(models).length).toBeGreaterThan(0);
    }
  });

  it("keeps what is known of an agent whose command the configuration replaces", async () => {
    const replaced = find("gemini", [{ name: "gemini", command: ["/opt/gemini", "--acp"] }]);
    expect(await replaced.command(await context())).toEqual(["/opt/gemini", "--acp"]);
    expect(replaced.recycling).toEqual(find("gemini").recycling);
    expect(find("kiro").canary).toBeDefined();
    expect(find("kiro", [{ name: "kiro", command: ["/opt/kiro"] }]).canary).toBeUndefined();
  });

  it("names what there is where a profile is not known", () => {
    expect(() => find("nobody")).toThrow(/kiro.*codex.*opencode/);
  });
});

describe("settings without tools", () => {
  it("of opencode and codex go over the account's own", async () => {
    const own = { provider: { local: {} }, permission: { "*": "allow" } };
    const opencode = find("opencode").mergedEnvironment?.(
      await context({ OPENCODE_CONFIG_CONTENT: JSON.stringify(own) }),
    );
    expect(JSON.parse(opencode?.["OPENCODE_CONFIG_CONTENT"] ?? "")).toMatchObject({
      provider: { local: {} },
      permission: { "*": "deny", "drawbridge_*": "allow" },
    });
    const codex = find("codex").mergedEnvironment?.(await context({ CODEX_CONFIG: '{"model":"x"}' }));
    expect(JSON.parse(codex?.["CODEX_CONFIG"] ?? "")).toMatchObject({ model: "x", sandbox_mode: "read-only" });
  });

  it("of gemini stand in the account's home, unless the home is somebody's own", async () => {
    const its = await context();
    await find("gemini").prepare?.(its);
    const settings = JSON.parse(await readFile(join(its.folders.home, ".gemini/settings.json"), "utf8")) as {
      policyPaths: [string];
    };
    expect(await readFile(settings.policyPaths[0], "utf8")).toContain('decision = "deny"');
    const home = await mkdtemp(join(tmpdir(), "drawbridge-home-"));
    directories.push(home);
    await find("gemini").prepare?.(await context({ HOME: home }));
    await expect(readFile(join(home, ".gemini/settings.json"))).rejects.toThrow();
  });

  it("leave a home that is somebody's own its folders", async () => {
    const foreign = baseEnvironment({}, await folders("/home/somebody"));
    expect(foreign).toMatchObject({ HOME: "/home/somebody" });
    expect(foreign["XDG_DATA_HOME"]).toBeUndefined();
    expect(baseEnvironment({}, await folders())["XDG_DATA_HOME"]).toBeDefined();
  });
});

describe("the way to log in", () => {
  it("is chosen by the credential that the account has", () => {
    const codex = find("codex").authenticate;
    expect(codex?.(["chatgpt", "codex-api-key", "openai-api-key"], { OPENAI_API_KEY: "k" })).toBe("openai-api-key");
    expect(codex?.(["chatgpt", "api-key"], { CODEX_API_KEY: "k" })).toBe("api-key");
    expect(codex?.(["chatgpt", "api-key"], {})).toBeUndefined();
    expect(find("gemini").authenticate?.(["oauth-personal", "gemini-api-key"], { GEMINI_API_KEY: "k" })).toBe(
      "gemini-api-key",
    );
  });
});

describe("tools of a request", () => {
  it("are refused for kiro-cli under an API key only", () => {
    const { refusal } = find("kiro").tools;
    expect(refusal?.({ KIRO_API_KEY: "ksk_x" })).toContain("API key");
    expect(refusal?.({})).toBeUndefined();
  });
});

describe("isolation", () => {
  const options = async () => ({
    kind: "none" as const,
    memoryBytesMax: 0,
    tasksMax: 0,
    directory: "/work",
    folders: { ...(await folders()), own: "/work/accounts/a", home: "/work/accounts/a/home" },
    workDirectory: "/work/work/w/1",
    root: true,
  });

  it("is none unless asked for", async () => {
    expect(isolated(["agent", "acp"], await options())).toEqual(["agent", "acp"]);
  });

  it("by bwrap hides the worker's folder before it shows the account's part", async () => {
    const command = isolated(["agent"], { ...(await options()), kind: "bwrap" });
    expect(command.slice(-2)).toEqual(["--", "agent"]);
    expect(command.join(" ")).toMatch(/--tmpfs \/work .*--bind \/work\/accounts\/a .*--remount-ro \/work /);
  });

  it("by systemd-run sets the limits that there are", async () => {
    const limits = { kind: "systemd-run" as const, memoryBytesMax: 1_024, tasksMax: 50 };
    const command = isolated(["agent"], { ...(await options()), ...limits, root: false }).join(" ");
    expect(command).toBe(
      "systemd-run --user --scope --quiet --collect -p MemoryMax=1024 -p MemorySwapMax=0 -p TasksMax=50 -- agent",
    );
    expect(isolated(["agent"], { ...(await options()), kind: "systemd-run" }).join(" ")).toBe(
      "systemd-run --scope --quiet --collect -- agent",
    );
  });
});
