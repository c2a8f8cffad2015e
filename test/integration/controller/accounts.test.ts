// Accounts through FleetService as other processes call it: over HTTP, held against the contract's field rules.
import type { Client } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FleetService } from "#gen/drawbridge/v1/fleet_service";
import { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { createControllerApp } from "../../../services/controller/app.ts";
import { applyAccounts } from "../../../services/controller/apply-accounts.ts";
import { controllerSettings } from "../../../services/controller/config.ts";
import { systemClock } from "../../../services/kit/clock.ts";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { systemRandom } from "../../../services/kit/random.ts";
import { createDialer } from "../../../services/kit/rpc/client.ts";
import { internalTokenOnly } from "../../../services/kit/rpc/internal-token.ts";
import { localClient } from "../../../services/kit/rpc/local.ts";
import { mount, startRpcServer } from "../../../services/kit/rpc/server.ts";
import { parseSettings } from "../../../services/kit/settings.ts";
import { createRegistryApp } from "../../../services/registry/app.ts";
import { registrySettings } from "../../../services/registry/config.ts";
import { openState } from "../../../services/state/open.ts";
import type { State } from "../../../services/state/state.ts";
import { account } from "./fleet-harness.ts";
import { silentDriver } from "../../support/silent-driver.ts";

const token = "internal-token";
type Fields = NonNullable<Parameters<typeof account>[1]>;

/** An account that wants no worker. */
const spec = (id: string, fields: Fields = {}) => account(id, { workers: { min: 0, max: 1 }, ...fields });

let resources: AsyncDisposableStack;
let state: State;
let fleet: Client<typeof FleetService>;

beforeEach(async () => {
  resources = new AsyncDisposableStack();
  const common = { clock: systemClock, random: systemRandom, log: silentLog };
  state = resources.use(await openState("sqlite::memory:", { log: silentLog }));
  const registry = resources.use(
    createRegistryApp({ ...common, state, config: parseSettings(registrySettings, {}, "test") }),
  );
  const app = resources.use(
    createControllerApp({
      ...common,
      state,
      config: parseSettings(controllerSettings, {}, "test"),
      agents: [],
      profiles: ["demo", "kiro"],
      registry: localClient(RegistryService, registry.service),
      worker: () => {
        throw new DrawbridgeError("WORKER_UNREACHABLE", "There are no workers.");
      },
      driver: silentDriver(),
    }),
  );
  const server = resources.use(
    await startRpcServer({
      listen: { host: "127.0.0.1", port: 0 },
      services: [mount(FleetService, app.service)],
      authorize: internalTokenOnly(token),
      ready: () => true,
      log: silentLog,
    }),
  );
  await registry.start();
  await app.start();
  const dialer = resources.use(createDialer({ token }));
  fleet = dialer.client(FleetService, server.address, { unreachable: "STATE_UNAVAILABLE" });
});

afterEach(() => resources.disposeAsync());

const refusal = (reason: string, ...words: string[]) => ({
  reason,
  message: expect.stringMatching(
    new RegExp(words.map((word) => word.replace(/[{}.*]/g, "\\$&")).join(".*"), "s"),
  ) as string,
});

describe("accounts", () => {
  it("are created with their credits, found, listed and deleted", async () => {
    const { account } = await fleet.createAccount({ spec: spec("a {1}/ü") });
    expect(account).toMatchObject({
      spec: spec("a {1}/ü"),
      managedBy: "api",
      generation: 1n,
      credits: { granted: 10_000n, available: 10_000n, held: 0n, spent: 0n },
      workerIds: [],
    });
    expect((await fleet.getAccount({ id: "a {1}/ü" })).account).toMatchObject({ spec: spec("a {1}/ü") });
    expect((await fleet.listAccounts({})).accounts).toMatchObject([{ spec: spec("a {1}/ü") }]);
    await expect(fleet.createAccount({ spec: spec("a {1}/ü") })).rejects.toMatchObject(
      refusal("ALREADY_EXISTS", "a {1}/ü"),
    );
    await fleet.deleteAccount({ id: "a {1}/ü" });
    for (const gone of [
      fleet.getAccount({ id: "a {1}/ü" }),
      fleet.deleteAccount({ id: "a {1}/ü" }),
      fleet.updateAccount({ spec: spec("a {1}/ü") }),
      fleet.grantCredits({ accountId: "a {1}/ü", millicredits: 1n }),
    ]) {
      await expect(gone).rejects.toMatchObject(refusal("NOT_FOUND", "a {1}/ü"));
    }
  });

  it("change wholly, or in the fields of a mask, and only where something differs", async () => {
    const created = (await fleet.createAccount({ spec: spec("a") })).account;
    const masked = await fleet.updateAccount({
      spec: spec("a", { slots: 9, queue: 9, drained: true, models: { other: "o" } }),
      updateMask: { paths: ["slots", "models", "drained"] },
    });
    expect(masked.account?.spec).toEqual(spec("a", { slots: 9, drained: true, models: { other: "o" } }));
    expect(masked.account?.generation).toBe(2n);
    const whole = await fleet.updateAccount({ spec: spec("a", { queue: 7 }) });
    expect(whole.account?.spec).toEqual(spec("a", { queue: 7 }));
    const same = await fleet.updateAccount({ spec: spec("a", { queue: 7 }) });
    expect([same.account?.generation, same.account?.revision]).toEqual([3n, whole.account?.revision]);
    expect(whole.account?.revision).toBeGreaterThan(created?.revision ?? 0n);
    for (const path of ["id", "colour", "workers.max", ""]) {
      const change = fleet.updateAccount({ spec: spec("a"), updateMask: { paths: [path] } });
      await expect(change, path).rejects.toMatchObject(refusal("INVALID_ARGUMENT", "update_mask", "slots"));
    }
  });

  it("let nobody write over what he has not read", async () => {
    const { account } = await fleet.createAccount({ spec: spec("a") });
    const revision = account?.revision ?? 0n;
    await fleet.updateAccount({ spec: spec("a", { slots: 3 }), revision });
    const conflict = refusal("REVISION_CONFLICT", "a");
    await expect(fleet.updateAccount({ spec: spec("a", { slots: 4 }), revision })).rejects.toMatchObject(conflict);
    await expect(fleet.deleteAccount({ id: "a", revision })).rejects.toMatchObject(conflict);
    expect((await fleet.getAccount({ id: "a" })).account?.spec?.slots).toBe(3);
    await fleet.deleteAccount({ id: "a", revision: revision + 1n });
  });

  it("lose no change of those that are made at the same time to different fields", async () => {
    await fleet.createAccount({ spec: spec("a", { slots: 1, queue: 1 }) });
    const change = (fields: Fields, path: string) =>
      fleet.updateAccount({ spec: spec("a", fields), updateMask: { paths: [path] } }).then(
        () => path,
        (error: unknown) => {
          expect(error).toMatchObject({ reason: "REVISION_CONFLICT" });
          return undefined;
        },
      );
    const done = await Promise.all([change({ slots: 5 }, "slots"), change({ queue: 5 }, "queue")]);
    const now = (await fleet.getAccount({ id: "a" })).account?.spec;
    expect(done).toEqual([now?.slots === 5 ? "slots" : undefined, now?.queue === 5 ? "queue" : undefined]);
    expect(done.some((path) => path !== undefined)).toBe(true);
  });

  it.each<[string, Fields, string]>([
    ["an empty id", { id: "" }, "id"],
    ["an id with a line break", { id: "a\nb" }, "id"],
    ["an agent that nobody knows", { agent: "nobody" }, "demo, kiro"],
    ["no model", { models: {} }, "models"],
    ["a model without a name", { models: { "": "m" } }, "models"],
    ["no slot", { slots: 0 }, "slots"],
    ["a negative queue", { queue: -1 }, "queue"],
    ["negative credits", { initialMillicredits: -1n }, "initial_millicredits"],
    ["more credits than can be counted", { initialMillicredits: 2n ** 53n }, "initial_millicredits"],
    ["no worker at most", { workers: { min: 0, max: 0 } }, "workers"],
    ["more workers at least than at most", { workers: { min: 3, max: 2 } }, "workers.min"],
    ["a variable with a wrong name", { env: { "1X": { source: { case: "value", value: "x" } } } }, "env"],
    ["a variable without a value", { env: { X: {} } }, "env"],
    ["a reference to nothing", { env: { X: { source: { case: "fromEnv", value: "" } } } }, "env"],
    ["a secret that is written out", { env: { API_KEY: { source: { case: "value", value: "sk-1" } } } }, "from_env"],
  ])("are refused with %s, by name, and nothing is stored", async (_, fields, named) => {
    const wrong = spec("a", fields);
    await expect(fleet.createAccount({ spec: wrong })).rejects.toMatchObject(refusal("INVALID_ARGUMENT", named));
    const applied = fleet.applyAccounts({ specs: [spec("b"), wrong] });
    await expect(applied).rejects.toMatchObject(refusal("INVALID_ARGUMENT", named));
    expect((await fleet.listAccounts({})).accounts).toEqual([]);
    if (wrong.id !== "a") return;
    await fleet.createAccount({ spec: spec("a") });
    await expect(fleet.updateAccount({ spec: wrong })).rejects.toMatchObject(refusal("INVALID_ARGUMENT", named));
    expect((await fleet.getAccount({ id: "a" })).account?.spec).toEqual(spec("a"));
  });

  it("refer to secrets in the environment, in files and in Kubernetes, and show nothing but the reference", async () => {
    const env: Fields["env"] = {
      KIRO_API_KEY: { source: { case: "fromEnv", value: "KIRO_1_KEY" } },
      CLIENT_SECRET: { source: { case: "fromFile", value: "/run/secrets/client" } },
      HF_TOKEN: { source: { case: "fromKubernetesSecret", value: { name: "seats", key: "hf" } } },
    };
    await fleet.createAccount({ spec: spec("a", { env }) });
    expect((await fleet.getAccount({ id: "a" })).account?.spec).toEqual(spec("a", { env }));
  });

  it("of a file are made exactly what it says, and those of the API are left alone", async () => {
    await fleet.createAccount({ spec: spec("by-hand") });
    expect(await fleet.applyAccounts({ specs: [spec("a"), spec("b")] })).toMatchObject({ created: ["a", "b"] });
    const applied = await fleet.applyAccounts({ specs: [spec("b", { slots: 7 }), spec("c")] });
    expect(applied).toMatchObject({ created: ["c"], updated: ["b"], deleted: ["a"], unchanged: [] });
    const { accounts } = await fleet.listAccounts({});
    expect(accounts.map((account) => [account.spec?.id, account.managedBy])).toEqual([
      ["b", "file"],
      ["by-hand", "api"],
      ["c", "file"],
    ]);
    await expect(fleet.applyAccounts({ specs: [spec("by-hand")] })).rejects.toMatchObject(
      refusal("ALREADY_EXISTS", "by-hand"),
    );
    await expect(fleet.applyAccounts({ specs: [spec("x"), spec("x")] })).rejects.toMatchObject(
      refusal("INVALID_ARGUMENT", "x"),
    );
    expect((await fleet.listAccounts({})).accounts).toEqual(accounts);
  });
});

it("several controllers that start from the same file at the same time all start", async () => {
  const events = { record() {}, async [Symbol.asyncDispose]() {} };
  const options = { state, clock: systemClock, events, profiles: ["demo"], conflicts: "skip" as const };
  const specs = ["a", "b", "c", "d"].map((id) => spec(id));
  const applied = await Promise.all(Array.from({ length: 5 }, () => applyAccounts(specs, options)));
  expect(applied.flatMap(({ created }) => created).toSorted()).toEqual(["a", "b", "c", "d"]);
  for (const { created, unchanged } of applied)
    expect([...created, ...unchanged].toSorted()).toEqual(["a", "b", "c", "d"]);
  const emptied = await Promise.all(Array.from({ length: 5 }, () => applyAccounts([], options)));
  expect(emptied.flatMap(({ deleted }) => deleted).toSorted()).toEqual(["a", "b", "c", "d"]);
});

it("a watcher of events that comes with a revision of a store that was emptied hears the new one's from its beginning", async () => {
  await fleet.createAccount({ spec: spec("a") });
  const stop = new AbortController();
  const heard: string[] = [];
  try {
    for await (const { event } of fleet.watchEvents({ afterRevision: 9_999n }, { signal: stop.signal })) {
      if (event) heard.push(event.type);
      if (heard.includes("AccountCreated")) stop.abort();
    }
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  }
  expect(heard).toContain("AccountCreated");
});
