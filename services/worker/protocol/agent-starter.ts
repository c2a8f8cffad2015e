// Everything that one agent process of an account needs, put together each time one is started: references are resolved then, so that a
// corrected file or a new login is found.
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { AccountSpec } from "#gen/drawbridge/v1/account";
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { WorkerSettings } from "../config.ts";
import { runCommand } from "../process/canary.ts";
import {
  type AccountFolders,
  baseEnvironment,
  createAccountFolders,
  type Environment,
  resolveValues,
} from "../process/environment.ts";
import { isolated } from "../process/isolation.ts";
import type { Reaper } from "../process/reaper.ts";
import type { AgentProfile, Canary } from "../profiles/profile.ts";
import { type Agent, startAgent } from "./agent.ts";

export interface AgentStarterOptions {
  readonly account: AccountSpec;
  readonly profile: AgentProfile;
  /** The worker's own environment. */
  readonly environment: Environment;
  /** For the accounts' folders. */
  readonly directory: string;
  /** For working directories. */
  readonly workDirectory: string;
  readonly workerTag: string;
  /** Numbers the processes of the worker. */
  readonly nextNumber: () => number;
  readonly version: string;
  readonly config: WorkerSettings;
  readonly clock: Clock;
  readonly reaper: Reaper;
}

export type StartAgent = (model: string, signal: AbortSignal) => Promise<Agent>;

export function createAgentStarter(options: AgentStarterOptions): StartAgent {
  const { account, profile, environment: host } = options;
  let checked = false;

  async function start(model: string, signal: AbortSignal): Promise<Agent> {
    const values = await resolveValues({ ...profile.values, ...account.env }, host);
    const folders = await createAccountFolders(options.directory, account.id, values["HOME"]);
    const context = { folders, host, values, model };
    await profile.prepare?.(context);
    const number = options.nextNumber();
    const common = {
      ...options,
      environment: {
        ...baseEnvironment(host, folders),
        ...profile.tools.environment,
        ...profile.environment(context),
        ...values,
        ...profile.mergedEnvironment?.(context),
      },
      directory: join(options.workDirectory, String(number)),
      tag: `${options.workerTag}.${number}`,
      signal,
    };
    if (!checked) {
      const canary = await profile.canary?.(context);
      if (canary) await check(canary, common);
      checked = true;
    }
    const command = isolated(await profile.command(context), isolationOf(options, folders, common.directory));
    return await startAgent({ ...common, profile, command, secrets: Object.values(values) });
  }

  return async (model, signal) => {
    try {
      return await start(model, signal);
    } catch (error) {
      // A login that was good once may have ended: it is asked after again.
      checked = false;
      throw error;
    }
  };
}

interface CheckOptions extends AgentStarterOptions {
  readonly environment: Readonly<Record<string, string>>;
  readonly directory: string;
  readonly tag: string;
  readonly signal: AbortSignal;
}

/** AGENT_UNAUTHENTICATED where the canary says so. */
async function check(canary: Canary, options: CheckOptions): Promise<void> {
  await mkdir(options.directory, { recursive: true, mode: 0o700 });
  try {
    const result = await runCommand({
      ...options,
      command: canary.command,
      timeoutMs: canary.timeoutMs,
      terminateGraceMs: options.config.terminate_grace,
    });
    if (options.signal.aborted) return;
    const why = canary.verdict(result);
    if (why) throw new DrawbridgeError("AGENT_UNAUTHENTICATED", `${why}.`);
  } finally {
    await rm(options.directory, { recursive: true, force: true });
  }
}

function isolationOf({ config, directory }: AgentStarterOptions, folders: AccountFolders, workDirectory: string) {
  return {
    kind: config.isolation,
    memoryBytesMax: config.process_memory_limit,
    tasksMax: config.process_tasks_limit,
    directory,
    folders,
    workDirectory,
    root: process.getuid?.() === 0,
  };
}
