// Where a Valkey (or Redis) store is: the address that operators write, taken apart.
//
//   valkey://[user[:password]@]host[:port][/database]                      one server
//   valkey+sentinel://[…@]host[:port],host[:port]…/master[?db=0]           the master that Sentinels know by this name
//   valkey+cluster://[…@]host[:port],host[:port]…                          a Cluster; some of its nodes
//
// `redis` is the same as `valkey`; `valkeys` and `rediss` speak TLS. Several hosts without "+sentinel" are a Cluster. Options: `prefix` stands
// before every key, `sentinel_password` is for the Sentinels themselves, `ca` is a file with the certificates to trust instead of the well-known
// ones.
import { DrawbridgeError } from "../../kit/errors.ts";

export interface StoreNode {
  readonly host: string;
  readonly port: number;
}

export interface StoreAddress {
  readonly kind: "single" | "sentinel" | "cluster";
  readonly nodes: readonly [StoreNode, ...StoreNode[]];
  readonly tls: boolean;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly sentinelPassword: string | undefined;
  /** Sentinel: what the master is called. */
  readonly master: string;
  readonly database: number;
  readonly prefix: string;
  /** A file in PEM. undefined: the well-known authorities. */
  readonly ca: string | undefined;
}

const form =
  /^(?<scheme>valkeys?|rediss?)(?:\+(?<kind>sentinel|cluster))?:\/\/(?:(?<login>[^@/]*)@)?(?<hosts>[^/?@]+)(?:\/(?<path>[^?]*))?(?:\?(?<options>.*))?$/;
const hostForm = /^(?:\[(?<v6>[0-9a-fA-F:.]+)\]|(?<name>[^:[\]]+))(?::(?<port>\d{1,5}))?$/;
const optionNames = ["prefix", "db", "sentinel_password", "ca"];
/** Braces in a prefix would be taken for hash tags. */
const prefixForm = /^[A-Za-z0-9._:-]{0,64}$/;

/** INVALID_ARGUMENT, with what was expected, if it is none. */
export function parseStoreAddress(url: string): StoreAddress {
  const parts = form.exec(url)?.groups;
  if (!parts)
    throw refuse("expected valkey://HOST:PORT, valkey+sentinel://HOST:PORT,…/MASTER or valkey+cluster://HOST:PORT,…");
  const options = new URLSearchParams(parts["options"] ?? "");
  const unknown = [...options.keys()].find((name) => !optionNames.includes(name));
  if (unknown !== undefined) throw refuse(`option "${unknown}" is not one of ${optionNames.join(", ")}`);
  const [first = "", ...rest] = (parts["hosts"] ?? "").split(",");
  const kind = (parts["kind"] as "sentinel" | "cluster" | undefined) ?? (rest.length > 0 ? "cluster" : "single");
  const node = (text: string) => parseNode(text, kind === "sentinel" ? 26_379 : 6_379);
  const path = decode(parts["path"] ?? "");
  if (kind === "sentinel" && path === "") throw refuse("expected the master's name after the Sentinels: …/MASTER");
  if (kind === "cluster" && path !== "") throw refuse("a Cluster has no databases: expected nothing after its hosts");
  const prefix = options.get("prefix") ?? "";
  if (!prefixForm.test(prefix)) throw refuse(`prefix "${prefix}" may have up to 64 letters, digits and . _ : -`);
  const [username, password] = parseLogin(parts["login"]);
  return {
    kind,
    nodes: [node(first), ...rest.map(node)],
    tls: parts["scheme"]?.endsWith("s") === true && parts["scheme"] !== "redis",
    username,
    password,
    sentinelPassword: options.get("sentinel_password") ?? undefined,
    master: kind === "sentinel" ? path : "",
    database: parseDatabase(options.get("db") ?? (kind === "single" ? path : "")),
    prefix,
    ca: options.get("ca") ?? undefined,
  };
}

function parseNode(text: string, defaultPort: number): StoreNode {
  const parts = hostForm.exec(text)?.groups;
  const port = Number(parts?.["port"] ?? defaultPort);
  const host = parts?.["v6"] ?? parts?.["name"];
  if (host === undefined || port < 1 || port > 65_535) throw refuse(`expected HOST or HOST:PORT instead of "${text}"`);
  return { host, port };
}

function parseLogin(login: string | undefined): [username: string | undefined, password: string | undefined] {
  if (!login) return [undefined, undefined];
  const colon = login.indexOf(":");
  if (colon < 0) return [decode(login), undefined];
  return [decode(login.slice(0, colon)) || undefined, decode(login.slice(colon + 1))];
}

function parseDatabase(text: string): number {
  if (!/^\d{0,5}$/.test(text)) throw refuse(`expected the number of a database instead of "${text}"`);
  return Number(text);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw refuse(`"${text}" is not percent-encoded well`);
  }
}

/** Names no part of the address that may hold a password. */
function refuse(expected: string): DrawbridgeError {
  return new DrawbridgeError("INVALID_ARGUMENT", `The address of the store ("state") is not valid: ${expected}.`);
}
