// Everything that one agent process of an account needs, put together each time one is started: references are resolved then, so that a
// corrected file or a new login is found.
import { join } from "node:path";
import type { AccountSpec } from "#gen/drawbridge/v1/account";
import type { Clock } from "../../kit/clock.ts";
import { type Agent, startAgent } from "./agent.ts";
import type { WorkerSettings } from "../config.ts";
import { baseEnvironment, createAccountFolders, type Environment, resolveValues } from "../process/environment.ts";
import type { AgentProfile } from "../profiles/profile.ts";
import type { Reaper } from "../process/reaper.ts";

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

export function createAgentStarter(
  options: AgentStarterOptions,
): (model: string, signal: AbortSignal) => Promise<Agent> {
  const { account, profile, environment: host } = options;
  return async (model, signal) => {
    const folders = await createAccountFolders(options.directory, account.id);
    const values = await resolveValues({ ...profile.values, ...account.env }, host);
    const context = { folders, host, model };
    const number = options.nextNumber();
    return await startAgent({
      profile,
      command: await profile.command(context),
      environment: {
        ...baseEnvironment(host, folders),
        ...profile.tools.environment,
        ...profile.environment(context),
        ...values,
      },
      secrets: Object.values(values),
      directory: join(options.workDirectory, String(number)),
      tag: `${options.workerTag}.${number}`,
      version: options.version,
      config: options.config,
      clock: options.clock,
      reaper: options.reaper,
      signal,
    });
  };
}
