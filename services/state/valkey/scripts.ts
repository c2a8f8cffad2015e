// The Lua scripts: a file for each atomic operation, named for it and for its number of keys, with shared code included.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface Script {
  readonly name: ScriptName;
  readonly text: string;
  /** What the server knows it by. */
  readonly digest: string;
  /** How many keys it takes; undefined: one or more. */
  readonly keyCount: number | undefined;
}

/** Operation → number of keys; "n": one or more. The files in lua/ are `operation-keys.lua`. */
const operations = {
  "acquire-leader": 2,
  "acquire-lease": 6,
  admit: 7,
  "append-event": 1,
  "beat-pod": 1,
  "claim-code": 1,
  "claim-key": 3,
  "create-account": 4,
  "create-code": 3,
  "create-key": 3,
  "create-user": 1,
  "delete-entries": 2,
  "delete-user": 2,
  "enter-pod": 2,
  "expire-pod": 1,
  "forget-active": 1,
  "grant-credits": 4,
  "grant-quota": 2,
  "list-events": 1,
  "list-pods": 2,
  "put-pod": 1,
  "read-account": 4,
  "record-outcome": 2,
  "release-leader": 1,
  "remove-account": 3,
  "remove-pod": 1,
  "renew-leases": "n",
  "replace-channel": 1,
  "report-demand": 1,
  "revoke-admin-key": 1,
  "revoke-key": 1,
  "rotate-key": 1,
  "set-conditions": 2,
  "set-credits": 3,
  "settle-hold": 5,
  "settle-lease": 4,
  "unlist-pod": 1,
  "update-account": 2,
  "update-record": 1,
  "write-breaker": 1,
} as const;

export type ScriptName = keyof typeof operations;

const directory = join(import.meta.dirname, "lua");

export function loadScripts(): Record<ScriptName, Script> {
  const names = Object.keys(operations) as ScriptName[];
  return Object.fromEntries(names.map((name) => [name, loadScript(name)])) as Record<ScriptName, Script>;
}

/** The scripts' files, for the test that there is none too many. */
export function scriptFiles(): string[] {
  return readdirSync(directory).filter((file) => file.endsWith(".lua"));
}

export function scriptFile(name: ScriptName): string {
  return `${name}-${operations[name]}.lua`;
}

function loadScript(name: ScriptName): Script {
  const text = readFileSync(join(directory, scriptFile(name)), "utf8").replace(
    /^-- @include ([a-z-]+)$/gm,
    (_line, include: string) => readFileSync(join(directory, "include", `${include}.lua`), "utf8").trimEnd(),
  );
  const keyCount = operations[name];
  return {
    name,
    text,
    digest: createHash("sha1").update(text).digest("hex"),
    keyCount: keyCount === "n" ? undefined : keyCount,
  };
}
