import { describe, expect, test } from "vitest";
import { type Candidate, loadOf } from "../../../services/scheduler/fleet/candidate.ts";
import { account, type Given, given, worker } from "./given-view.ts";

const loads = ({ view }: Given) => view.model("m")?.candidates.map((each) => [each.workerId, loadOf(each)]) ?? [];
const only = ({ view }: Given) => view.model("m")?.candidates[0] as Candidate;

let attempts = 0;

function take(fleet: Given, open?: number) {
  const candidate = only(fleet);
  fleet.view.beginClaim(candidate);
  fleet.view.endClaim(candidate, `attempt ${(attempts += 1)}`, open ?? loadOf(candidate));
}

describe("candidates", () => {
  test("are the pools of live workers for accounts that declare the model", () => {
    const fleet = given([account("a"), account("b", { models: ["other"] })], [worker("a"), worker("b")]);
    expect(loads(fleet)).toEqual([["a-1", 0]]);
    expect(fleet.view.model("other")?.candidates).toEqual([]);
    expect(fleet.view.model("unknown")).toBeUndefined();
  });

  test("come and go with workers and accounts, in any order", () => {
    const fleet = given([account("a")], []);
    fleet.view.putWorker(worker("a"));
    expect(loads(fleet)).toEqual([["a-1", 0]]);
    fleet.view.setAccounts([], []);
    expect(loads(fleet)).toEqual([]);
    fleet.view.setAccounts([account("a")], []);
    expect(loads(fleet)).toEqual([["a-1", 0]]);
    fleet.view.removeWorker("a-1");
    expect(loads(fleet)).toEqual([]);
  });

  test("follow what the account declares and what the worker serves", () => {
    const fleet = given([account("a")], [worker("a", { models: ["m", "n"] })]);
    expect(fleet.view.model("n")).toBeUndefined();
    fleet.view.setAccounts([account("a", { models: ["n"], revision: 2n })], []);
    expect(fleet.view.model("m")).toBeUndefined();
    expect(fleet.view.model("n")?.size).toBe(1);
    fleet.view.putWorker(worker("a", { models: ["m"] }, 2n));
    expect(fleet.view.model("n")?.size).toBe(0);
  });
});

describe("the load", () => {
  test("is what the worker told, corrected by our own calls until it tells again", () => {
    const fleet = given([account("a")], [worker("a", { load: 1 })]);
    take(fleet);
    take(fleet);
    expect(loads(fleet)).toEqual([["a-1", 3]]);
    // Accounts read again say nothing of the load.
    fleet.view.setAccounts([account("a")], []);
    expect(loads(fleet)).toEqual([["a-1", 3]]);
    fleet.view.putWorker(worker("a", { load: 4 }, 2n));
    expect(loads(fleet)).toEqual([["a-1", 4]]);
  });

  test("is what the store counts, others' leases included, as soon as it answers", () => {
    const fleet = given([account("a")], [worker("a")]);
    take(fleet, 3);
    expect(loads(fleet)).toEqual([["a-1", 3]]);
  });

  test("counts a claim before the store has answered, and not when it was refused", () => {
    const fleet = given([account("a")], [worker("a")]);
    fleet.view.beginClaim(only(fleet));
    expect(loads(fleet)).toEqual([["a-1", 1]]);
    fleet.view.endClaim(only(fleet), "a", undefined);
    expect(loads(fleet)).toEqual([["a-1", 0]]);
  });

  test("has our own leases in it, though the worker's word is older than they are", () => {
    const fleet = given([account("a")], [worker("a")]);
    take(fleet);
    take(fleet);
    fleet.view.putWorker(worker("a", { load: 0 }, 2n));
    expect(loads(fleet)).toEqual([["a-1", 2]]);
  });

  test("forgets our own leases that ended elsewhere", async () => {
    const fleet = given([account("a")], [worker("a")]);
    take(fleet);
    await fleet.clock.advance(10_000);
    fleet.view.putWorker(worker("a", { load: 0 }, 2n));
    expect(loads(fleet)).toEqual([["a-1", 0]]);
  });

  test("is never below nothing", () => {
    const fleet = given([account("a")], [worker("a")]);
    fleet.view.endLease(only(fleet), "a");
    expect(loads(fleet)).toEqual([["a-1", 0]]);
  });

  test("is not that of a word that was overtaken by a later one", () => {
    const fleet = given([account("a")], [worker("a", { load: 3 }, 5n)]);
    fleet.view.putWorker(worker("a", { load: 0 }, 4n));
    expect(loads(fleet)).toEqual([["a-1", 3]]);
  });
});

test("a worker that could not be reached is down until it shows itself", () => {
  const fleet = given([account("a")], [worker("a")]);
  fleet.view.markDown("a-1", fleet.clock.now() + 60_000);
  fleet.view.setAccounts([account("a")], []);
  expect(fleet.best()).toBeUndefined();
  fleet.view.putWorker(worker("a", {}, 2n));
  expect(fleet.best()).toBe("a");
});

test("room is told when there was none", async () => {
  const fleet = given([account("a", { credits: 0 })], [worker("a", { load: 4 })]);
  let told = 0;
  fleet.view.onRoom(() => (told += 1));
  fleet.view.setCredits("a", 10_000);
  expect(told).toBe(0);
  fleet.view.putWorker(worker("a", { load: 3 }, 2n));
  expect(told).toBe(1);
  fleet.view.pause(only(fleet), fleet.clock.now() + 100);
  expect(fleet.best()).toBeUndefined();
  await fleet.clock.advance(100);
  expect(told).toBe(2);
});

describe("a conversation", () => {
  const holder = ({ view }: Given) => view.holder("c", "m")?.account.id;

  test("is where a worker said that it is", () => {
    const fleet = given(
      [account("a"), account("b", { credits: 99 })],
      [worker("a", { conversations: ["c"] }), worker("b")],
    );
    expect(fleet.best()).toBe("b");
    expect(holder(fleet)).toBe("a");
    fleet.view.putWorker(worker("a", { conversations: [] }, 2n));
    expect(holder(fleet)).toBeUndefined();
  });

  test("is where an answer ended, until the worker says that it is gone", () => {
    const fleet = given([account("a")], [worker("a")]);
    fleet.view.tellConversation("c", only(fleet));
    expect(holder(fleet)).toBe("a");
    fleet.view.putWorker(worker("a", { conversations: ["d"] }, 2n));
    expect(holder(fleet)).toBeUndefined();
  });

  test("is nowhere while its holder has no free slot, or is much slower than others", () => {
    const fleet = given([account("a"), account("b")], [worker("a", { conversations: ["c"], load: 4 }), worker("b")]);
    expect(holder(fleet)).toBeUndefined();
    fleet.view.putWorker(worker("a", { conversations: ["c"] }, 2n));
    expect(holder(fleet)).toBe("a");
    for (const [id, ms] of [
      ["b", 10],
      ["b", 10],
      ["b", 10],
      ["a", 500],
      ["a", 500],
      ["a", 500],
    ] as const) {
      fleet.view.tellSpeed("m", id, ms);
    }
    expect(holder(fleet)).toBeUndefined();
  });
});

test("models are those that accounts declare, ready where a worker serves them", () => {
  const { view } = given([account("a"), account("b", { models: ["x"] })], [worker("a")]);
  expect(view.models()).toEqual([
    { name: "m", accounts: 1, ready: true, createdAt: 1_000 },
    { name: "x", accounts: 1, ready: false, createdAt: 1_000 },
  ]);
});
