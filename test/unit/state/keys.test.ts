import { describe, expect, test } from "vitest";
import { createKeys } from "../../../services/state/keys.ts";
import { hostileIds } from "../../conformance/state/given.ts";

const keys = createKeys("");

/** What a cluster hashes of a key: the text between its first "{" and the next "}", if there is any; else all of it. */
function hashed(key: string): string {
  const open = key.indexOf("{");
  const close = open < 0 ? -1 : key.indexOf("}", open + 1);
  return close > open + 1 ? key.slice(open + 1, close) : key;
}

describe("keys", () => {
  test("are what the documentation says", () => {
    expect(keys.pod("w-1")).toBe("pod:{w-1}");
    expect(keys.modelPods("m")).toBe("model:{m}:pods");
    expect(keys.account("a-1")).toBe("account:{a-1}");
    expect(keys.credits("a-1")).toBe("credits:{a-1}");
    expect(keys.breaker("a-1")).toBe("cb:{a-1}");
    expect(keys.leader).toBe("leader:controller");
  });

  test.each(hostileIds.map((id) => [id.slice(0, 40), id]))("of account %j share a slot", (_title, id) => {
    const all = [
      keys.account(id),
      keys.conditions(id),
      keys.credits(id),
      keys.books(id),
      keys.creditGrants(id),
      keys.leases(id),
      ...hostileIds.flatMap((other) => [keys.workerLeases(id, other), keys.lease(id, other)]),
    ];
    expect(new Set(all.map(hashed)).size).toBe(1);
    expect(hashed(all[0] ?? "")).not.toContain("account:");
  });

  test.each(hostileIds.map((id) => [id.slice(0, 40), id]))("of user %j share a slot", (_title, id) => {
    const all = [
      keys.user(id),
      keys.quotaGrants(id),
      keys.userKeys(id),
      keys.holds(id),
      keys.usage(id),
      keys.entries(id),
      ...hostileIds.flatMap((other) => [keys.key(id, other), keys.hold(id, other), keys.idempotency(id, other)]),
    ];
    expect(new Set(all.map(hashed)).size).toBe(1);
    expect(hashed(all[0] ?? "")).not.toContain("user:");
  });

  test("of the directories share a slot each, and so do the lock and its epoch", () => {
    for (const { podIndex, podRevision, keyOwners, keyHashes, keyIds, leader, leaderEpoch } of [
      keys,
      createKeys("p:"),
    ]) {
      expect(hashed(podIndex)).toBe(hashed(podRevision));
      expect(new Set([keyOwners, keyHashes, keyIds].map(hashed)).size).toBe(1);
      expect(hashed(leader)).toBe(hashed(leaderEpoch));
    }
  });

  test("of different things are different", () => {
    const ids = [...hostileIds, "pods", "keys", "leader:controller"];
    const all = [keys, createKeys("p:")].flatMap((each) =>
      Object.values(each).flatMap((key: string | ((id: string, other: string) => string)) => {
        if (typeof key === "string") return [key];
        return ids.flatMap((id) => (key.length === 1 ? [key(id, "")] : [key(id, "x"), key(id, "")]));
      }),
    );
    expect(new Set(all).size).toBe(all.length);
  });

  test("an empty id has none", () => {
    expect(() => keys.account("")).toThrow(expect.objectContaining({ reason: "INVALID_ARGUMENT" }));
  });
});
