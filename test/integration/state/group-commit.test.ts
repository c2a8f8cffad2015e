// Operations that come together share one commit of the SQLite file, and nothing else.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Database, openDatabase } from "../../../services/state/embedded/database.ts";
import { createGroupCommit, type GroupCommit } from "../../../services/state/embedded/group-commit.ts";

let folder: string;
let database: Database;
let other: Database;
let commits: GroupCommit;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "drawbridge-commit-"));
  const path = join(folder, "state.db");
  database = openDatabase(path);
  other = openDatabase(path);
  commits = createGroupCommit(database);
});

afterEach(() => {
  commits[Symbol.dispose]();
  database[Symbol.dispose]();
  other[Symbol.dispose]();
  rmSync(folder, { recursive: true, force: true });
});

/** As another process sees it: what is committed. */
const committed = () => Number(other.get("SELECT value FROM counters WHERE name = 'n'")?.["value"] ?? 0);

test("each has its own result, once all are committed", async () => {
  const results = [1, 2, 3].map(() => commits.run(() => database.next("n")));
  expect(committed()).toBe(0);
  expect(await Promise.all(results)).toEqual([1, 2, 3]);
  expect(committed()).toBe(3);
});

test("one that throws takes back its own work only", async () => {
  const fail = () => {
    database.next("n");
    throw new Error("refused");
  };
  const results = await Promise.allSettled([
    commits.run(() => database.next("n")),
    commits.run(fail),
    commits.run(() => database.next("n")),
  ]);
  expect(results.map((each) => each.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(committed()).toBe(2);
  await expect(commits.run(fail)).rejects.toThrow("refused");
  expect(committed()).toBe(2);
});

test("where nothing can be committed, all fail", async () => {
  const results = Promise.allSettled([1, 2].map(() => commits.run(() => database.next("n"))));
  database[Symbol.dispose]();
  expect((await results).map((each) => each.status)).toEqual(["rejected", "rejected"]);
  expect(committed()).toBe(0);
  database = openDatabase(join(folder, "state.db"));
});

test("what waits when the store closes is committed first", () => {
  void commits.run(() => database.next("n"));
  commits[Symbol.dispose]();
  expect(committed()).toBe(1);
});
