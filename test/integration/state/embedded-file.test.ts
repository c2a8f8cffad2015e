// The embedded store's file: who may read it, what is refused, and that it stays small while it is written.
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { silentLog } from "../../../services/kit/log.ts";
import { openState } from "../../../services/state/open.ts";
import { adminKey } from "../../conformance/state/given.ts";
import { until } from "../../support/until.ts";

let directory: string;
const open = (path: string) => openState(`sqlite:${path}`, { log: silentLog });
const refusal = (message: RegExp) =>
  expect.objectContaining({ reason: "INVALID_ARGUMENT", message: expect.stringMatching(message) as string });

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "drawbridge-state-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

describe("the store's address", () => {
  test.each(["", "sqlite:", "postgres://localhost", "state.db", "sqlite"])("%j is refused", async (url) => {
    await expect(openState(url, { log: silentLog })).rejects.toThrow(refusal(/sqlite:PATH/));
  });

  test("a store in memory ends with its owner", async () => {
    for (let turn = 0; turn < 2; turn++) {
      await using state = await openState("sqlite::memory:", { log: silentLog });
      expect(await state.access.initialized()).toBe(false);
      await state.access.addAdminKey(adminKey({ hash: "h" }), 0);
    }
  });
});

describe("the store's file", () => {
  test("is made with its folder, for its owner only", async () => {
    const path = join(directory, "new", "folder", "state.db");
    await using state = await open(path);
    await state.access.addAdminKey(adminKey({ hash: "h" }), 0);
    expect(await modeOf(join(directory, "new", "folder"))).toBe(0o700);
    for (const suffix of ["", "-wal", "-shm"]) expect(await modeOf(path + suffix), suffix).toBe(0o600);
  });

  test("is closed to others even if it was open", async () => {
    const path = join(directory, "state.db");
    await (await open(path))[Symbol.asyncDispose]();
    await chmod(path, 0o644);
    await using _state = await open(path);
    expect(await modeOf(path)).toBe(0o600);
  });

  test("leaves one file behind when it is closed", async () => {
    const path = join(directory, "state.db");
    const state = await open(path);
    await state.access.addAdminKey(adminKey({ hash: "h" }), 0);
    await state[Symbol.asyncDispose]();
    expect(await exists(`${path}-wal`)).toBe(false);
    await using again = await open(path);
    expect(await again.access.findAdminKey("h")).toBeDefined();
  });

  test("that is not a database is refused, and left as it was", async () => {
    const path = join(directory, "notes.txt");
    const text = "These are my notes, and no database.\n".repeat(100);
    await writeFile(path, text, { mode: 0o644 });
    await expect(open(path)).rejects.toThrow(refusal(/notes\.txt is no Drawbridge store.*Name another file/));
    expect(await readFile(path, "utf8")).toBe(text);
    expect(await modeOf(path)).toBe(0o644);
  });

  test("of another program is refused, and left as it was", async () => {
    const path = join(directory, "other.db");
    const other = new DatabaseSync(path);
    other.exec("CREATE TABLE theirs (x)");
    other.close();
    const before = await readFile(path);
    await expect(open(path)).rejects.toThrow(refusal(/no Drawbridge store/));
    expect((await readFile(path)).equals(before)).toBe(true);
  });

  test("of a newer version is refused", async () => {
    const path = join(directory, "state.db");
    await (await open(path))[Symbol.asyncDispose]();
    const newer = new DatabaseSync(path);
    newer.exec("PRAGMA user_version = 999");
    newer.close();
    await expect(open(path)).rejects.toThrow(refusal(/newer version.*another file/));
  });

  test("that cannot be there is refused", async () => {
    await mkdir(join(directory, "folder"));
    await expect(open(join(directory, "folder"))).rejects.toThrow(refusal(/cannot be opened: check/));
    await writeFile(join(directory, "file"), "");
    await expect(open(join(directory, "file", "state.db"))).rejects.toThrow(refusal(/cannot be opened: check/));
  });

  test("is opened by many at the same time when it is new", async () => {
    const path = join(directory, "state.db");
    const opened = await Promise.all(Array.from({ length: 5 }, () => open(path)));
    await Promise.all(opened.map((state) => state.ping()));
    for (const state of opened) await state[Symbol.asyncDispose]();
  });

  test("takes over its log while it is written", async () => {
    const path = join(directory, "state.db");
    await using state = await open(path);
    const user = { id: "u", tier: "default", quotaMicros: 1 };
    for (let index = 0; index < 500; index++) await state.access.createUser({ ...user, id: `u${index}` }, 0);
    const small = (await stat(path)).size;
    await until("a checkpoint brings the log into the file", async () => (await stat(path)).size > small);
  });
});

async function modeOf(path: string): Promise<number> {
  return (await stat(path)).mode & 0o777;
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
