// The worker's settings. Durations are written like "120s" and read as milliseconds, sizes like "16MiB" and read as bytes.
import { z } from "zod";
import { byteSize, duration } from "../kit/settings.ts";
import { isolationKinds } from "./process/isolation.ts";

export const workerSettings = z.strictObject({
  /** Time for an agent process to start and answer `initialize`. Default 120s. */
  initialize_timeout: duration().prefault("120s"),
  /** Time to open a session in a running agent process. Default 90s. */
  session_timeout: duration().prefault("90s"),
  /** Time from the prompt to the agent's first sign of work. Default 120s. */
  first_token_timeout: duration().prefault("120s"),
  /** Time between two signs of work. Default 120s. */
  idle_timeout: duration().prefault("120s"),
  /** Time for a whole prompt, waiting in the queue included; a shorter deadline of the call bounds it too. Default 600s. */
  total_timeout: duration().prefault("600s"),
  /** Time for an agent to answer after its turn was cancelled; then its process is killed. Default 3s. */
  cancel_grace: duration().prefault("3s"),
  /** Time for a process group to end after SIGTERM; then it gets SIGKILL. Default 2s. */
  terminate_grace: duration().prefault("2s"),
  /** Time for prompts in flight when the worker drains and the call names none. Default 30s. */
  drain_grace: duration().prefault("30s"),
  /** The longest line that an agent may write. A longer one is skipped and fails its prompt. Default 16MiB. */
  line_limit: byteSize().prefault("16MiB"),
  /** Text that is buffered for a slow reader before the agent's output is left unread. Default 64KiB. */
  buffer_limit: byteSize().prefault("64KiB"),
  /** What is kept of each agent process's standard error. Default 64KiB. */
  stderr_limit: byteSize().prefault("64KiB"),
  /** The most output tokens of a prompt that names no limit, in tokens. Default 0: none. */
  output_tokens_max: z.int().min(0).max(10_000_000).default(0),
  /** Agent processes that are kept running for each account, prompts or not. Default 1. */
  processes_min: z.int().min(0).max(1024).default(1),
  /** Agent processes of the worker that start at the same time. Default 2. */
  starts_max: z.int().min(1).max(64).default(2),
  /** Processes beyond the minimum end after so long without a prompt. Default 5m. */
  process_idle_timeout: duration().prefault("5m"),
  /** A process is replaced after so many turns, in turns; a profile may say less. Default 100. */
  process_turns_max: z.int().min(1).max(1_000_000).default(100),
  /** A process is replaced after so long; a profile may say less. Default 6h. */
  process_age_max: duration().prefault("6h"),
  /** A process is replaced when it and all that it started hold more resident memory than this; a profile may say less. Default 2GiB. */
  process_memory_max: byteSize().prefault("2GiB"),
  /** How often that memory is measured, on processes without a prompt. Default 30s. */
  process_memory_interval: duration().prefault("30s"),
  /** The first wait after a process could not be started; it doubles with every further failure. Default 250ms. */
  restart_backoff: duration().prefault("250ms"),
  /** The longest wait between two starts that fail. Default 30s. */
  restart_backoff_max: duration().prefault("30s"),
  /** What agents run behind, where the machine has it: none, bwrap, or systemd-run. Default none. */
  isolation: z.enum(isolationKinds).default("none"),
  /** Memory of an agent and all that it starts, kept by systemd-run. Default 0B: none. */
  process_memory_limit: byteSize().prefault("0B"),
  /** Processes and threads of an agent, in tasks, kept by systemd-run. Default 0: none. */
  process_tasks_limit: z.int().min(0).max(1_000_000).default(0),
  /** The least time between two heartbeats. Default 50ms. */
  heartbeat_gap: duration().prefault("50ms"),
  /** The worker ends by itself when neither a registry nor a controller has been heard for so long. Default 10m. */
  orphan_timeout: duration().prefault("10m"),
  /** Outcomes that are kept until the registry has acknowledged them; beyond that the oldest is dropped. Default 100000. */
  outcomes_max: z.int().min(10_000).max(10_000_000).default(100_000),
  /** Sessions of finished prompts that are kept for the next request of their conversation, for each account. Default 32; 0: none. */
  conversations_max: z.int().min(0).max(1024).default(32),
  /** Time for that next request. Default 5m. */
  conversation_timeout: duration().prefault("5m"),
  /** Time for an agent to ask which tools there are, in a session with tools. Default 15s. */
  tool_list_timeout: duration().prefault("15s"),
  /** Calls of tools that come within so long of each other are one answer. Default 100ms. */
  tool_gather: duration().prefault("100ms"),
  /** Time for a client to bring the results of its tools, while the agent waits; a profile may say less. Default 110s. */
  tool_park_timeout: duration().prefault("110s"),
  /**
   * Agents that wait for results at the same time, for each account. Each is a process beyond the slots; past that number the oldest wait ends.
   * Default 4; 0: none waits.
   */
  tools_parked_max: z.int().min(0).max(1024).default(4),
  /** The longest answer of a prompt with a response format, in characters. Default 1MiB. */
  format_limit: byteSize().prefault("1MiB"),
});

export type WorkerSettings = z.output<typeof workerSettings>;
