import { describe, expect, test } from "vitest";
import { parseStoreAddress } from "../../../services/state/valkey/address.ts";

const plain = {
  kind: "single",
  nodes: [{ host: "h", port: 6379 }],
  tls: false,
  username: undefined,
  password: undefined,
  sentinelPassword: undefined,
  master: "",
  database: 0,
  prefix: "",
};

describe("the address of a store", () => {
  test.each([
    ["valkey://h", {}],
    ["redis://h:1", { nodes: [{ host: "h", port: 1 }] }],
    ["valkey://h/", {}],
    ["valkey://h/3", { database: 3 }],
    ["valkey://h?db=3", { database: 3 }],
    ["rediss://h", { tls: true }],
    ["valkeys://h", { tls: true }],
    ["valkey://:pa%3Ass@h", { password: "pa:ss" }],
    ["valkey://user:pa:ss@h", { username: "user", password: "pa:ss" }],
    ["valkey://user@h", { username: "user" }],
    ["valkey://[::1]:7000", { nodes: [{ host: "::1", port: 7000 }] }],
    ["valkey://h?prefix=staging:", { prefix: "staging:" }],
    ["valkey://a,b:2,c", { kind: "cluster", nodes: [node("a"), node("b", 2), node("c")] }],
    ["valkey+cluster://h", { kind: "cluster" }],
    [
      "rediss+cluster://u:p@a:1,b:2",
      { kind: "cluster", tls: true, username: "u", password: "p", nodes: [node("a", 1), node("b", 2)] },
    ],
    ["valkey+sentinel://a,b:2/main", { kind: "sentinel", nodes: [node("a", 26379), node("b", 2)], master: "main" }],
    [
      "valkey+sentinel://:p@a/my%20main?db=2&prefix=x:&sentinel_password=s",
      {
        kind: "sentinel",
        nodes: [node("a", 26379)],
        master: "my main",
        password: "p",
        database: 2,
        prefix: "x:",
        sentinelPassword: "s",
      },
    ],
  ])("%s", (url, expected) => {
    expect(parseStoreAddress(url)).toEqual({ ...plain, ...expected });
  });

  test.each([
    ["valkey:h", /expected valkey:/],
    ["valkey://", /expected valkey:/],
    ["valkey+other://h", /expected valkey:/],
    ["valkey://h:0", /HOST:PORT/],
    ["valkey://h:99999", /HOST:PORT/],
    ["valkey://a,,b", /HOST:PORT/],
    ["valkey://h/x", /number of a database/],
    ["valkey://h?db=-1", /number of a database/],
    ["valkey+cluster://a,b/1", /no databases/],
    ["valkey+sentinel://a", /master's name/],
    ["valkey://h?prefix={a}", /prefix/],
    ["valkey://h?colour=red", /option "colour"/],
    ["valkey://%zz@h", /percent-encoded/],
  ])("%s is refused", (url, message) => {
    expect(() => parseStoreAddress(url)).toThrow(
      expect.objectContaining({ reason: "INVALID_ARGUMENT", message: expect.stringMatching(message) as string }),
    );
  });

  test("a refusal does not tell the password", () => {
    expect(() => parseStoreAddress("valkey://u:secret@h/x")).toThrow(/^(?!.*secret)/);
  });
});

function node(host: string, port = 6379) {
  return { host, port };
}
