// Which system a command talks to, and with which admin key.
import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join, resolve } from "node:path";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Shell } from "../shell.ts";

export interface Target {
  /** Without a slash at the end. */
  readonly url: string;
  readonly adminKey: string;
  /** Where the key came from, for a message about it. */
  readonly keySource: string;
}

export interface TargetFlags {
  readonly url?: string;
  readonly adminKeyFile?: string;
}

export const defaultUrl = "http://127.0.0.1:8080";

/** A key is never an argument: other users of the machine see arguments. */
export async function findTarget(flags: TargetFlags, shell: Shell): Promise<Target> {
  const url = parseUrl(flags.url, shell);
  return { url: url.href.replace(/\/+$/, ""), ...(await findKey(flags, url, shell)) };
}

function parseUrl(flag: string | undefined, { environment }: Shell): URL {
  const text = flag ?? (environment["DRAWBRIDGE_URL"] || defaultUrl);
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url && /^https?:$/.test(url.protocol) && url.search === "" && url.hash === "" && url.username === "") return url;
  const source = flag === undefined ? "DRAWBRIDGE_URL" : "--url";
  throw new DrawbridgeError("INVALID_ARGUMENT", `${source} is "${text}": expected an address such as ${defaultUrl}.`);
}

type Key = Pick<Target, "adminKey" | "keySource">;

async function findKey({ adminKeyFile }: TargetFlags, url: URL, shell: Shell): Promise<Key> {
  if (adminKeyFile !== undefined) {
    const adminKey = await readKey(resolve(shell.directory, adminKeyFile), adminKeyFile);
    if (adminKey !== undefined) return { adminKey, keySource: adminKeyFile };
    throw new DrawbridgeError("INVALID_ARGUMENT", `There is no file ${adminKeyFile} with an admin key.`);
  }
  const given = shell.environment["DRAWBRIDGE_ADMIN_KEY"];
  if (given) return { adminKey: checkKey(given, "DRAWBRIDGE_ADMIN_KEY"), keySource: "DRAWBRIDGE_ADMIN_KEY" };
  // What `up` on this machine wrote is for this machine, and goes nowhere else.
  const local = join(shell.environment["DRAWBRIDGE_DIRECTORY"] || ".drawbridge", "admin-key");
  const adminKey = isLoopback(url.hostname) ? await readKey(resolve(shell.directory, local), local) : undefined;
  if (adminKey !== undefined) return { adminKey, keySource: local };
  throw new DrawbridgeError(
    "UNAUTHENTICATED",
    "No admin key: set DRAWBRIDGE_ADMIN_KEY, name a file with --admin-key-file, or, on the machine of `drawbridge up`, run the command in the folder where that was started.",
  );
}

/** undefined: there is no such file. */
async function readKey(path: string, name: string): Promise<string | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw new DrawbridgeError("INVALID_ARGUMENT", `${name} cannot be read (${code}).`, { cause: error });
  }
  return checkKey(text, name);
}

/** A key is sent in a header, which takes visible characters only. */
function checkKey(text: string, source: string): string {
  const key = text.trim();
  if (/^[\x21-\x7e]+$/.test(key)) return key;
  throw new DrawbridgeError("INVALID_ARGUMENT", `${source} has no admin key in it: expected one line with the key.`);
}

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || (isIP(hostname) === 4 && hostname.startsWith("127."));
}
