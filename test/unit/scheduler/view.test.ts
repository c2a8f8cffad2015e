import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { type Account, AccountSchema } from "#gen/drawbridge/v1/account";
import { Health, type Worker, WorkerSchema } from "#gen/drawbridge/v1/worker";
import { createView } from "../../../services/scheduler/view.ts";

const account = (id: string, models: Record<string, string> = { m: "m" }): Account =>
  create(AccountSchema, {
    spec: { id, models, millicreditsPerRequest: 1_000n },
    credits: { granted: 5_000n, available: 5_000n },
    createdAt: { seconds: 1n },
  });

function worker(
  id: string,
  accountId: string,
  fields: { revision?: bigint; available?: number; queued?: number } = {},
) {
  const { revision = 1n, available = 4, queued = 0 } = fields;
  const pool = { accountId, models: ["m"], slots: 4, availableSlots: available, queueLimit: 8, queueDepth: queued };
  return create(WorkerSchema, {
    id,
    incarnation: "i",
    address: `http://${id}`,
    revision,
    pools: [{ ...pool, health: Health.HEALTHY }],
  });
}

function viewOf(accounts: Account[], workers: Worker[]) {
  const view = createView();
  view.setAccounts(accounts, []);
  view.setWorkers(workers);
  return view;
}

const loads = (view: ReturnType<typeof viewOf>) => view.candidates("m").map((each) => [each.workerId, each.load]);

describe("candidates", () => {
  test("are the pools of live workers for accounts that declare the model", () => {
    const view = viewOf([account("a"), account("b", { other: "x" })], [worker("a-1", "a"), worker("b-1", "b")]);
    expect(loads(view)).toEqual([["a-1", 0]]);
    expect(view.candidates("other")).toEqual([]);
    expect(view.candidates("unknown")).toEqual([]);
  });

  test("come and go with workers and accounts", () => {
    const view = viewOf([account("a")], []);
    view.putWorker(worker("a-1", "a"));
    expect(loads(view)).toEqual([["a-1", 0]]);
    view.setAccounts([], []);
    expect(loads(view)).toEqual([]);
    view.setAccounts([account("a")], []);
    view.removeWorker("a-1");
    expect(loads(view)).toEqual([]);
  });

  test("have the load that the worker told, corrected by our own calls until it tells again", () => {
    const view = viewOf([account("a")], [worker("a-1", "a", { available: 1, queued: 0 })]);
    view.addLoad("a", "a-1", 1);
    view.addLoad("a", "a-1", 1);
    expect(loads(view)).toEqual([["a-1", 5]]);
    // Accounts read again say nothing of the load.
    view.setAccounts([account("a")], []);
    expect(loads(view)).toEqual([["a-1", 5]]);
    view.putWorker(worker("a-1", "a", { revision: 2n, available: 0, queued: 3 }));
    expect(loads(view)).toEqual([["a-1", 7]]);
  });

  test("never have a load below nothing", () => {
    const view = viewOf([account("a")], [worker("a-1", "a")]);
    view.addLoad("a", "a-1", -1);
    expect(loads(view)).toEqual([["a-1", 0]]);
  });

  test("of a worker that could not be reached are down until then, or until it shows itself", () => {
    const view = viewOf([account("a")], [worker("a-1", "a")]);
    const downUntil = () => view.candidates("m")[0]?.downUntil;
    view.markDown("a-1", 99);
    view.setAccounts([account("a")], []);
    expect(downUntil()).toBe(99);
    view.putWorker(worker("a-1", "a", { revision: 2n }));
    expect(downUntil()).toBe(0);
  });
});

test("models are those that accounts declare, ready where a worker serves them", () => {
  const view = viewOf([account("a", { m: "m", n: "n" }), account("b")], [worker("a-1", "a")]);
  expect(view.models()).toEqual([
    { name: "m", accounts: 2, createdAt: 1_000, ready: true },
    { name: "n", accounts: 1, createdAt: 1_000, ready: false },
  ]);
});
