// What an agent finds: folders of its account, kept over restarts since logins live there, and an environment of listed variables only.
import { createHash } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { EnvValue, KubernetesSecretKey } from "#gen/drawbridge/v1/account";
import { DrawbridgeError } from "../../kit/errors.ts";

/** The folders of one account. */
export interface AccountFolders {
  /** What all the others are in. */
  readonly own: string;
  /** The account's HOME: a folder in `own`, unless the configuration names another. */
  readonly home: string;
  readonly config: string;
  readonly data: string;
  readonly cache: string;
  readonly state: string;
  readonly runtime: string;
  readonly temporary: string;
}

/** A folder name for any id: readable, and different for different ids. */
export function folderName(id: string): string {
  const digest = createHash("sha256").update(id).digest("hex").slice(0, 10);
  return `${id.replaceAll(/[^A-Za-z0-9_-]/g, "_").slice(0, 40)}-${digest}`;
}

/** `home`: what the configuration says that HOME is. */
export async function createAccountFolders(
  directory: string,
  accountId: string,
  home: string | undefined,
): Promise<AccountFolders> {
  const root = join(directory, "accounts", folderName(accountId));
  const folders: AccountFolders = {
    own: root,
    home: home ?? join(root, "home"),
    config: join(root, "config"),
    data: join(root, "data"),
    cache: join(root, "cache"),
    state: join(root, "state"),
    runtime: join(root, "runtime"),
    temporary: join(root, "tmp"),
  };
  for (const folder of Object.values(folders)) await mkdir(folder, { recursive: true, mode: 0o700 });
  return folders;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** What agents inherit from the worker: enough to find programs and to write text. */
const inherited = /^(?:PATH|LANG|LC_[A-Z]+|TZ)$/;

/** A home that is not the account's own comes with the folders in it, where its logins are. */
export function baseEnvironment(host: Environment, folders: AccountFolders): Record<string, string> {
  const environment: Record<string, string> = {};
  for (const [name, value] of Object.entries(host)) {
    if (value !== undefined && inherited.test(name)) environment[name] = value;
  }
  const common = { ...environment, HOME: folders.home, XDG_RUNTIME_DIR: folders.runtime, TMPDIR: folders.temporary };
  if (!folders.home.startsWith(folders.own)) return common;
  return {
    ...common,
    XDG_CONFIG_HOME: folders.config,
    XDG_DATA_HOME: folders.data,
    XDG_CACHE_HOME: folders.cache,
    XDG_STATE_HOME: folders.state,
  };
}

/** Resolves references, where the agent is started and nowhere else. A reference to nothing is refused. */
export async function resolveValues(
  values: Readonly<Record<string, EnvValue>>,
  host: Environment,
): Promise<Record<string, string>> {
  const resolved: Record<string, string> = {};
  for (const [name, { source }] of Object.entries(values)) {
    if (source.case === "value") resolved[name] = source.value;
    else if (source.case === "fromEnv") resolved[name] = fromEnvironment(name, source.value, host);
    else if (source.case === "fromFile") resolved[name] = await fromFile(name, source.value);
    else if (source.case === "fromKubernetesSecret") throw secretWithoutKubernetes(name, source.value);
  }
  return resolved;
}

function fromEnvironment(name: string, variable: string, host: Environment): string {
  const value = host[variable];
  if (value !== undefined) return value;
  throw new DrawbridgeError(
    "INVALID_ARGUMENT",
    `${name} refers to the environment variable ${variable}, which is not set where the worker runs. Set it and restart.`,
  );
}

/** The kubernetes driver has made a variable of it before the worker starts. */
function secretWithoutKubernetes(name: string, { name: secret, key }: KubernetesSecretKey): DrawbridgeError {
  return new DrawbridgeError(
    "INVALID_ARGUMENT",
    `${name} refers to the key ${key} of the Kubernetes Secret ${secret}, which only the kubernetes driver resolves. Use from_env or from_file here.`,
  );
}

async function fromFile(name: string, file: string): Promise<string> {
  try {
    return (await readFile(file, "utf8")).replace(/\r?\n$/, "");
  } catch (error) {
    throw new DrawbridgeError(
      "INVALID_ARGUMENT",
      `${name} refers to the file ${file}, which the worker cannot read. Create it, or correct the reference.`,
      { cause: error },
    );
  }
}
