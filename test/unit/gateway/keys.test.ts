import { describe, expect, it } from "vitest";
import { allowsAddress, isNetwork } from "../../../services/gateway/access/addresses.ts";
import { hashKey, makeKey } from "../../../services/gateway/access/keys.ts";

describe("a key", () => {
  it("looks like OpenAI's, and no two are the same", () => {
    const keys = Array.from({ length: 50 }, () => makeKey("user"));
    for (const { secret, prefix } of keys) {
      expect(secret).toMatch(/^sk-[A-Za-z0-9_-]{43}$/);
      expect(secret.startsWith(prefix)).toBe(true);
      // What is shown in lists leaves nothing to guess from.
      expect(prefix.length).toBeLessThan(12);
    }
    expect(new Set(keys.map(({ secret }) => secret)).size).toBe(50);
    expect(makeKey("admin").secret).toMatch(/^sk-admin-/);
  });

  it("is stored as a hash that depends on all of it and on the pepper", () => {
    expect(hashKey("sk-a", "")).toMatch(/^[0-9a-f]{64}$/);
    expect(hashKey("sk-a", "")).toBe(hashKey("sk-a", ""));
    expect(new Set([hashKey("sk-a", ""), hashKey("sk-b", ""), hashKey("sk-a", "p"), hashKey("sk-ap", "")]).size).toBe(
      4,
    );
    expect(hashKey("sk-a", "p")).not.toContain("sk-a");
  });
});

describe("an address allow-list", () => {
  it.each([
    [[], "203.0.113.9", true],
    [["10.0.0.0/8"], "10.200.1.1", true],
    [["10.0.0.0/8"], "11.0.0.1", false],
    [["10.0.0.0/8", "192.0.2.7"], "192.0.2.7", true],
    [["192.0.2.7"], "192.0.2.8", false],
    [["10.0.0.0/8"], "::ffff:10.1.2.3", true],
    [["2001:db8::/32"], "2001:db8:1::1", true],
    [["2001:db8::/32"], "2001:db9::1", false],
    [["::1"], "127.0.0.1", false],
    [["0.0.0.0/0"], "198.51.100.1", true],
    [["10.0.0.0/8"], "", false],
  ] as const)("%j from %s: %s", (networks, address, allowed) => {
    expect(allowsAddress(networks, address)).toBe(allowed);
  });

  it.each([
    ["10.0.0.0/8", true],
    ["10.0.0.1", true],
    ["::/0", true],
    ["2001:db8::/129", false],
    ["10.0.0.0/33", false],
    ["10.0.0.0/", false],
    ["10.0.0.0/8/8", false],
    ["10.0.0/8", false],
    ["localhost", false],
    ["", false],
  ])("knows a network: %s", (text, valid) => {
    expect(isNetwork(text)).toBe(valid);
  });
});
