// Which system a command talks to, and with which key.
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findTarget } from "../../../services/cli/client/target.ts";
import { testShell } from "./terminal.ts";

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "drawbridge-target-"));
  for (const directory of [".drawbridge", "elsewhere"]) {
    await mkdir(join(folder, directory));
    await writeFile(join(folder, directory, "admin-key"), `key-of-${directory}\n`);
  }
  await writeFile(join(folder, "empty"), "\n");
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

function find(
  flags: { url?: string; adminKeyFile?: string },
  environment: Record<string, string> = {},
  directory = folder,
) {
  return findTarget(flags, testShell({ environment, directory }, { output: () => {}, errors: () => {} }));
}

describe("the address", () => {
  const key = { DRAWBRIDGE_ADMIN_KEY: "k" };

  it.each([
    [{}, {}, "http://127.0.0.1:8080"],
    [{}, { DRAWBRIDGE_URL: "" }, "http://127.0.0.1:8080"],
    [{}, { DRAWBRIDGE_URL: "https://gate.example.com/" }, "https://gate.example.com"],
    [{ url: "http://[::1]:9/prefix/" }, { DRAWBRIDGE_URL: "http://other" }, "http://[::1]:9/prefix"],
  ])("%j with %j is %s", async (flags, environment, url) => {
    expect((await find(flags, { ...key, ...environment })).url).toBe(url);
  });

  it.each(["127.0.0.1:8080", "ftp://host", "http://user:password@host", "http://host/?a=b", "nonsense"])(
    "%s is refused, and says where it stands",
    async (url) => {
      await expect(find({ url }, key)).rejects.toThrow(/--url.*expected an address/);
      await expect(find({}, { ...key, DRAWBRIDGE_URL: url })).rejects.toThrow(/DRAWBRIDGE_URL.*expected an address/);
    },
  );
});

describe("the admin key", () => {
  it("comes from the named file, else the environment, else what `up` left", async () => {
    const environment = { DRAWBRIDGE_ADMIN_KEY: " key-of-environment\n" };
    const named = await find({ adminKeyFile: "elsewhere/admin-key" }, environment);
    expect(named).toMatchObject({ adminKey: "key-of-elsewhere", keySource: "elsewhere/admin-key" });
    expect(await find({}, environment)).toMatchObject({ adminKey: "key-of-environment" });
    expect(await find({})).toMatchObject({ adminKey: "key-of-.drawbridge", keySource: ".drawbridge/admin-key" });
    expect(await find({}, { DRAWBRIDGE_DIRECTORY: "elsewhere" })).toMatchObject({ adminKey: "key-of-elsewhere" });
  });

  it.each(["http://localhost:1", "http://127.0.0.2:1", "http://[::1]:1"])(
    "that `up` left is for this machine: %s",
    async (url) => {
      expect((await find({ url })).adminKey).toBe("key-of-.drawbridge");
    },
  );

  it.each(["http://192.0.2.1:8080", "https://127.example.com", "http://localhost.example.com"])(
    "that `up` left is not sent to %s",
    async (url) => {
      await expect(find({ url })).rejects.toThrow("DRAWBRIDGE_ADMIN_KEY");
    },
  );

  it("is asked for where there is none", async () => {
    await expect(find({}, {}, join(folder, "elsewhere"))).rejects.toThrow(/DRAWBRIDGE_ADMIN_KEY.*--admin-key-file/);
  });

  it("is refused where it is none, or not there", async () => {
    await expect(find({ adminKeyFile: "empty" })).rejects.toThrow("empty has no admin key in it");
    await expect(find({ adminKeyFile: "missing" })).rejects.toThrow("There is no file missing");
    await expect(find({ adminKeyFile: "elsewhere" })).rejects.toThrow("elsewhere cannot be read (EISDIR)");
    await expect(find({}, { DRAWBRIDGE_ADMIN_KEY: "two words" })).rejects.toThrow("DRAWBRIDGE_ADMIN_KEY has no");
  });
});
