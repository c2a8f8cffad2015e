import { describe, expect, it } from "vitest";
import { ActionType } from "#gen/drawbridge/v1/fleet_service";
import { Health } from "#gen/drawbridge/v1/worker";
import { account, healthRecord, now, planOf, processOf, type Scene, settings, worker } from "./fixtures.ts";

const verbs = { [ActionType.CREATE]: "create", [ActionType.DRAIN]: "drain", [ActionType.DESTROY]: "destroy" };

function steps(scene: Scene): string[] {
  return planOf(scene).steps.map(({ type, workerId }) => `${verbs[type]} ${workerId}`);
}

const a = account("a");
const two = account("a", { workers: { min: 2, max: 2 } });
const silent = healthRecord({ unanswered: 3, silentSince: now - 10_000, reason: "timed out" });

describe("plan: how many", () => {
  it("starts what is missing, and does nothing when nothing is", () => {
    expect(steps({ accounts: [two] })).toEqual(["create a-1", "create a-2"]);
    expect(steps({ accounts: [two], processes: [processOf("a-1", two), processOf("a-2", two)] })).toEqual([]);
  });

  it("names workers safely, and differently for accounts that differ in unsafe characters only", () => {
    const created = planOf({ accounts: [account("a/b"), account("a b")] }).steps.map(({ workerId }) => workerId);
    expect(new Set(created).size).toBe(2);
    for (const id of created) expect(id).toMatch(/^a_b-[0-9a-f]{10}-1$/);
  });

  it("counts workers that were started by hand, and starts none beside them", () => {
    expect(steps({ accounts: [a], workers: [worker("by-hand", "a", { generation: 0n })] })).toEqual([]);
  });

  it("leaves a worker of several accounts to all of them", () => {
    const exhausted = account("b", {}, { available: 0n });
    expect(steps({ accounts: [a, exhausted], workers: [worker("shared", ["a", "b"], { generation: 0n })] })).toEqual(
      [],
    );
    expect(steps({ workers: [worker("shared", ["a", "b"])] })).toEqual(["drain shared"]);
  });

  it("drains what nobody wants, and destroys what has not begun", () => {
    expect(steps({ workers: [worker("x-1", "x")] })).toEqual(["drain x-1"]);
    expect(steps({ processes: [processOf("x-1", account("x"))] })).toEqual(["destroy x-1"]);
  });

  it("has no workers without credits, but waits for what leases hold", () => {
    const empty = account("a", {}, { available: 999n });
    const scene = { processes: [processOf("a-1", a)], workers: [worker("a-1", "a")] };
    expect(steps({ ...scene, accounts: [empty] })).toEqual(["drain a-1"]);
    expect(steps({ accounts: [empty] })).toEqual([]);
    if (empty.credits) empty.credits.held = 1n;
    expect(steps({ ...scene, accounts: [empty] })).toEqual([]);
  });

  it("never runs out of credits where prompts cost none", () => {
    expect(steps({ accounts: [account("a", { millicreditsPerRequest: 0n }, { available: 0n })] })).toEqual([
      "create a-1",
    ]);
  });

  it("has no worker of an account with workers.min 0 that nobody asks for, and one when somebody does", () => {
    const parked = account("a", { workers: { min: 0, max: 3 } });
    expect(steps({ accounts: [parked] })).toEqual([]);
    const asked = planOf({ accounts: [parked], targets: new Map([["a", 1]]), waiting: new Map([["a", 2]]) });
    expect(asked.steps).toMatchObject([
      { workerId: "a-1", reason: "The account has 0 of 1 workers, and 2 requests wait for its models." },
    ]);
    expect(steps({ accounts: [parked], workers: [worker("a-1", "a")] })).toEqual(["drain a-1"]);
  });

  it("keeps an elastic account at its target, and gives up the idle before the busy", () => {
    const elastic = account("a", { workers: { min: 1, max: 3 } });
    const targets = new Map([["a", 2]]);
    expect(steps({ accounts: [elastic], targets })).toEqual(["create a-1", "create a-2"]);
    const processes = ["a-1", "a-2", "a-3"].map((id) => processOf(id, elastic));
    const workers = [worker("a-1", "a"), worker("a-2", "a", { busy: 1 }), worker("a-3", "a", { busy: 1 })];
    expect(steps({ accounts: [elastic], targets, processes, workers })).toEqual(["drain a-1"]);
  });

  it("ends workers that it started before those that others did, which may stay up to the maximum", () => {
    const wide = account("a", { workers: { min: 1, max: 2 } });
    const workers = [worker("by-hand", "a", { generation: 0n }), worker("a-1", "a")];
    expect(steps({ accounts: [wide], processes: [processOf("a-1", wide)], workers })).toEqual(["drain a-1"]);
    const others = ["x", "y", "z"].map((id) => worker(id, "a", { generation: 0n }));
    expect(steps({ accounts: [wide], workers: others })).toEqual(["drain z"]);
  });

  it("waits for the end of a back-off", () => {
    const waiting = { accounts: [a], retryAt: new Map([["a", now + 1]]) };
    expect(steps(waiting)).toEqual([]);
    expect(planOf(waiting).summaries[0]?.waiting).toBe(1);
    expect(steps({ accounts: [a], retryAt: new Map([["a", now]]) })).toEqual(["create a-1"]);
  });
});

describe("plan: what failed", () => {
  it("replaces a dead process at once, under its old name", () => {
    expect(steps({ accounts: [a], workers: [worker("a-1", "a")], owned: new Set(["a-1"]) })).toEqual([
      "destroy a-1",
      "create a-1",
    ]);
  });

  it("replaces a worker that left three health checks unanswered, and not before", () => {
    const scene = { accounts: [a], processes: [processOf("a-1", a)], workers: [worker("a-1", "a")] };
    const twice = healthRecord({ unanswered: 2, silentSince: now });
    expect(steps({ ...scene, health: new Map([["a-1", twice]]) })).toEqual([]);
    expect(steps({ ...scene, health: new Map([["a-1", silent]]) })).toEqual(["destroy a-1", "create a-1"]);
  });

  it("does not count on a worker that it did not start and that has never answered", () => {
    const health = new Map([["ghost", healthRecord({ unanswered: 1, silentSince: now, proven: false })]]);
    expect(steps({ accounts: [a], workers: [worker("ghost", "a")], health })).toEqual(["destroy ghost", "create a-1"]);
  });

  it("blames the network when most workers fall silent at once, for a while", () => {
    const many = account("a", { workers: { min: 4, max: 4 } });
    const ids = ["a-1", "a-2", "a-3", "a-4"];
    const scene = {
      accounts: [many],
      processes: ids.map((id) => processOf(id, many)),
      workers: ids.map((id) => worker(id, "a")),
      health: new Map(ids.slice(1).map((id) => [id, silent])),
    };
    expect(steps(scene)).toEqual([]);
    const later = steps({ ...scene, now: now + settings.mass_failure_wait });
    expect(later.filter((step) => step.startsWith("destroy"))).toHaveLength(3);
  });

  it("keeps a worker that lost its registration and still answers", () => {
    const health = new Map([["a-1", healthRecord()]]);
    const processes = [processOf("a-1", a, now - 3_600_000)];
    expect(steps({ accounts: [a], processes, health })).toEqual([]);
  });

  it("believes no silence and no absence while the registry is new or has lost most of what it knew", () => {
    const processes = [processOf("a-1", a, now - 3_600_000)];
    const lost = new Map([["a-1", now - 3_600_000]]);
    for (const scene of [
      { workers: [worker("a-1", "a")], health: new Map([["a-1", silent]]) },
      { health: new Map([["a-1", healthRecord()]]), lost },
      {},
    ]) {
      expect(steps({ accounts: [a], processes, ...scene, trusted: false })).toEqual([]);
      expect(steps({ accounts: [a], processes, ...scene })).toEqual(["destroy a-1", "create a-1"]);
    }
    // That its process has ended is no matter of belief.
    const ended = { accounts: [a], workers: [worker("a-1", "a")], owned: new Set(["a-1"]), trusted: false };
    expect(steps(ended)).toEqual(["destroy a-1", "create a-1"]);
  });

  it("replaces a worker that never registers, counted from when somebody leads", () => {
    const processes = [processOf("a-1", a, now - settings.start_timeout)];
    expect(steps({ accounts: [a], processes, leadingSince: now - 1_000 })).toEqual([]);
    expect(steps({ accounts: [a], processes })).toEqual(["destroy a-1", "create a-1"]);
  });

  it("lets an unhealthy worker recover by itself for a while", () => {
    const scene = {
      accounts: [a],
      processes: [processOf("a-1", a)],
      workers: [worker("a-1", "a", { health: Health.UNHEALTHY })],
      health: new Map([["a-1", healthRecord({ unhealthySince: now })]]),
    };
    expect(steps(scene)).toEqual([]);
    expect(steps({ ...scene, now: now + settings.start_timeout })).toEqual(["destroy a-1", "create a-1"]);
  });

  it("ends a worker that does not end by itself after it was drained", () => {
    const scene = {
      accounts: [a],
      processes: [processOf("a-1", a), processOf("a-2", a)],
      workers: [worker("a-1", "a", { health: Health.DRAINING }), worker("a-2", "a")],
      draining: new Map([["a-1", now]]),
    };
    expect(steps(scene)).toEqual([]);
    expect(steps({ ...scene, now: now + settings.drain_grace + 60_000 })).toEqual(["destroy a-1"]);
  });

  it("does not take the registration of a process that ended for its successor's", () => {
    const processes = [processOf("a-1", a, now, 200)];
    const scene = { accounts: [a], processes, workers: [worker("a-1", "a", { pid: 100 })] };
    expect(steps(scene)).toEqual([]);
    expect(planOf(scene).summaries[0]?.ready).toEqual([]);
  });
});

describe("plan: a changed account", () => {
  const changed = account("a", { slots: 3 }, { generation: 2n });
  const old = { processes: [processOf("a-1", a)], workers: [worker("a-1", "a")] };

  it("starts the new worker first", () => {
    expect(steps({ ...old, accounts: [changed] })).toEqual(["create a-2"]);
  });

  it("keeps the old one until the new one is ready, then drains it", () => {
    const processes = [...old.processes, processOf("a-2", changed)];
    const starting = { ...old, accounts: [changed], processes };
    expect(steps(starting)).toEqual([]);
    const degraded = worker("a-2", "a", { health: Health.DEGRADED, generation: 2n });
    expect(steps({ ...starting, workers: [...old.workers, degraded] })).toEqual([]);
    const ready = worker("a-2", "a", { generation: 2n });
    expect(steps({ ...starting, workers: [...old.workers, ready] })).toEqual(["drain a-1"]);
  });

  it("rolls several workers one after the other", () => {
    const three = account("a", { workers: { min: 3, max: 3 } });
    const next = account("a", { workers: { min: 3, max: 3 }, slots: 3 }, { generation: 2n });
    const ids = ["a-1", "a-2", "a-3"];
    const scene = { processes: ids.map((id) => processOf(id, three)), workers: ids.map((id) => worker(id, "a")) };
    expect(steps({ ...scene, accounts: [next] })).toEqual(["create a-4"]);
  });

  it("gives up as many old workers as may be unavailable before a new one is ready", () => {
    const three = account("a", { workers: { min: 3, max: 3 } });
    const next = account("a", { workers: { min: 3, max: 3 }, slots: 3 }, { generation: 2n });
    const ids = ["a-1", "a-2", "a-3"];
    const scene = {
      accounts: [next],
      processes: ids.map((id) => processOf(id, three)),
      workers: ids.map((id) => worker(id, "a")),
      surge: 0,
      unavailable: 1,
    };
    expect(steps(scene)).toEqual(["drain a-3"]);
    const gone = { ...scene, processes: scene.processes.slice(0, 2), workers: scene.workers.slice(0, 2) };
    expect(steps(gone)).toEqual(["create a-3"]);
    const starting = { ...gone, processes: [...gone.processes, processOf("a-3", next)] };
    expect(steps(starting)).toEqual([]);
    const ready = { ...starting, workers: [...gone.workers, worker("a-3", "a", { generation: 2n })] };
    expect(steps(ready)).toEqual(["drain a-2"]);
  });

  it("gives up old workers that serve nobody without waiting", () => {
    expect(steps({ accounts: [changed], processes: old.processes })).toEqual(["create a-2", "destroy a-1"]);
  });

  it("leaves workers alone when the change concerns none", () => {
    const same = account(
      "a",
      { initialMillicredits: 5n, drained: true, workers: { min: 1, max: 9 } },
      { generation: 2n },
    );
    expect(steps({ ...old, accounts: [same] })).toEqual([]);
  });

  it("replaces a worker that somebody else started by its generation", () => {
    const workers = [worker("theirs", "a", { generation: 1n })];
    expect(steps({ accounts: [changed], workers })).toEqual(["create a-1"]);
    const both = [...workers, worker("a-1", "a", { generation: 2n })];
    expect(steps({ accounts: [changed], workers: both, processes: [processOf("a-1", changed)] })).toEqual([
      "drain theirs",
    ]);
  });
});
