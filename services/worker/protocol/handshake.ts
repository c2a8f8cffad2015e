// The first words with an agent: which version it speaks, what it can do, and who we are.
import { type InitializeResponse, methods, PROTOCOL_VERSION } from "@agentclientprotocol/sdk/unstable";
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { WorkerSettings } from "../config.ts";
import type { AgentProcess } from "../process/agent-process.ts";
import type { AgentProfile } from "../profiles/profile.ts";
import type { AcpConnection } from "./acp-connection.ts";
import { late, withComplaints } from "./agent-errors.ts";
import { within } from "./deadline.ts";

export interface HandshakeOptions {
  readonly profile: AgentProfile;
  readonly environment: Readonly<Record<string, string>>;
  readonly secrets: readonly string[];
  readonly version: string;
  readonly config: WorkerSettings;
  readonly clock: Clock;
}

/** Throws a DrawbridgeError, or what the agent answered. */
export async function shakeHands(
  options: HandshakeOptions,
  process: AgentProcess,
  connection: AcpConnection,
): Promise<InitializeResponse> {
  const greeting = await initialize(options, process, connection);
  await authenticate(options, process, connection, greeting);
  return greeting;
}

async function initialize(
  options: HandshakeOptions,
  process: AgentProcess,
  connection: AcpConnection,
): Promise<InitializeResponse> {
  const { config, clock, version } = options;
  const answer = connection.request(methods.agent.initialize, {
    protocolVersion: PROTOCOL_VERSION,
    clientCapabilities: { fs: { readTextFile: false, writeTextFile: false }, terminal: false },
    clientInfo: { name: "drawbridge", version },
  });
  const greeting = await within(withComplaints(answer, process, options), config.initialize_timeout, clock, () =>
    late("start", config.initialize_timeout),
  );
  if (greeting.protocolVersion === PROTOCOL_VERSION) return greeting;
  throw new DrawbridgeError(
    "AGENT_PROTOCOL",
    `The agent speaks version ${String(greeting.protocolVersion)} of the Agent Client Protocol; version ${PROTOCOL_VERSION} is needed.`,
  );
}

/** Only where the profile says so: some agents list their methods though they are logged in. */
async function authenticate(
  options: HandshakeOptions,
  process: AgentProcess,
  connection: AcpConnection,
  greeting: InitializeResponse,
): Promise<void> {
  const { config, clock, profile, environment } = options;
  const offered = (greeting.authMethods ?? []).map(({ id }) => id);
  const methodId = profile.authenticate?.(offered, environment);
  if (methodId === undefined) return;
  const answer = connection.request(methods.agent.authenticate, { methodId });
  await within(withComplaints(answer, process, options), config.initialize_timeout, clock, () =>
    late("authenticate", config.initialize_timeout),
  );
}
