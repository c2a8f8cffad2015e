// The embedded store's thread: it keeps the event loop free, answers what it was sent before it ends, takes no more than its limit, and is replaced
// where it fails.
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setImmediate as nextTurn } from "node:timers/promises";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, test } from "vitest";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { errorOf, faultOf } from "../../../services/state/embedded/thread/messages.ts";
import { openThreadState, type ThreadStateOptions } from "../../../services/state/embedded/thread/state.ts";
import { openState } from "../../../services/state/open.ts";
import { adminKey, expectReason, givenUser, t0 } from "../../conformance/state/given.ts";
import { until } from "../../support/until.ts";

let directory: string;
const path = () => join(directory, "state.db");
const open = (options: Partial<ThreadStateOptions> = {}) =>
  openThreadState({ path: path(), log: silentLog, ...options });

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "drawbridge-thread-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

test("the event loop goes on while the store waits", async () => {
  await using state = await open();
  const other = new DatabaseSync(path());
  other.exec("BEGIN IMMEDIATE");
  let answered = false;
  const call = state.access.addAdminKey(adminKey(), t0).finally(() => {
    answered = true;
  });
  for (let turn = 0; turn < 1_000; turn++) await nextTurn();
  expect(answered).toBe(false);
  other.exec("COMMIT");
  other.close();
  expect(await call).toMatchObject({ id: "admin" });
});

test("what was sent before the store is closed is answered and kept", async () => {
  const state = await open();
  const ids = Array.from({ length: 200 }, (_, index) => `u${String(index).padStart(3, "0")}`);
  const sent = ids.map((id) => state.access.createUser({ id, tier: "default", quotaMicros: 1 }, t0));
  const closed = state[Symbol.asyncDispose]();
  const late = expectReason("STATE_UNAVAILABLE", state.ping());
  expect((await Promise.all(sent)).map((user) => user.id)).toEqual(ids);
  await Promise.all([closed, late]);
  await using again = await open();
  expect((await again.access.listUsers("", 1_000)).map((user) => user.id)).toEqual(ids);
});

test("a process ends by itself when nothing is open, and not before", async () => {
  const program = `
    import { silentLog } from "./services/kit/log.ts";
    import { openState } from "./services/state/open.ts";
    const state = await openState("sqlite:" + process.argv[1], { log: silentLog });
    void state.access.createUser({ id: "u", tier: "default", quotaMicros: 1 }, 0);
  `;
  const root = new URL("../../..", import.meta.url);
  await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program, path()], { cwd: root });
  await using state = await open();
  expect(await state.access.getUser("u")).toMatchObject({ id: "u" });
});

test("beyond the limit a call fails at once, and says when to come back", async () => {
  await using state = await open({ openMax: 2 });
  const calls = [1, 2, 3].map(() => state.ping());
  await expect(calls[2]).rejects.toMatchObject({ reason: "STATE_UNAVAILABLE", retryAfterMs: 1_000 });
  await Promise.all(calls.slice(0, 2));
  await state.ping();
});

test("a thread that fails fails its calls, and another one takes over", async () => {
  await using state = await open({ program: new URL("failing-store.ts", import.meta.url) });
  await givenUser(state);
  let heard = 0;
  using _subscription = state.access.onChange(() => void heard++);
  await expect(state.ping()).rejects.toMatchObject({ reason: "STATE_UNAVAILABLE", retryAfterMs: 1_000 });
  await expectReason("STATE_UNAVAILABLE", state.access.getUser("u"));
  await until("another thread answers", async () => (await state.access.getUser("u"))?.id === "u");
  expect(heard).toBeGreaterThan(0);
  const before = heard;
  await state.access.grantQuota("u", "g", 1, t0);
  await until("a change is heard again", () => heard > before);
});

test("a store can be closed while its thread is away", async () => {
  const state = await open({ program: new URL("failing-store.ts", import.meta.url) });
  await expectReason("STATE_UNAVAILABLE", state.ping());
  await state[Symbol.asyncDispose]();
  await expectReason("STATE_UNAVAILABLE", state.access.getUser("u"));
  await using other = await openState(`sqlite:${path()}`, { log: silentLog });
  await other.ping();
});

test("an error keeps what callers decide by on its way", () => {
  const cross = (error: unknown) => errorOf(structuredClone(faultOf(error)));
  const refusal = cross(
    new DrawbridgeError("STATE_UNAVAILABLE", "away", { retryAfterMs: 7, cause: new Error("disk") }),
  );
  expect(refusal).toBeInstanceOf(DrawbridgeError);
  expect(refusal).toMatchObject({
    reason: "STATE_UNAVAILABLE",
    message: "away",
    retryAfterMs: 7,
    cause: { message: "disk" },
  });
  expect(cross(new TypeError("broken"))).toBeInstanceOf(TypeError);
  expect(cross({ code: () => {} })).toBeInstanceOf(Error);
});
