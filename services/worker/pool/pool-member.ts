// One agent process through its phases: starting, ready, busy, preparing and ready again, stopping. The pool decides; this does.
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import type { Agent, AgentSession } from "../protocol/agent.ts";
import type { MemberView, Phase } from "./pool-plan.ts";

export interface MemberOptions {
  readonly id: number;
  /** By the agent's name. */
  readonly model: string;
  readonly startAgent: (model: string, signal: AbortSignal) => Promise<Agent>;
  /** Resident memory of a process and all that it started, in bytes, where that can be known. */
  readonly measure: (pid: number) => Promise<number | undefined>;
  /** How often that is asked at most. */
  readonly measureGapMs: number;
  readonly clock: Clock;
  readonly log: Log;
  /** It ended by itself while it had nothing to do. */
  readonly onLost: (error: DrawbridgeError) => void;
}

/** An agent, and a session that is ready for a prompt. */
export interface Equipment {
  readonly agent: Agent;
  readonly session: AgentSession;
}

/** What a prompt left behind. */
export interface Leftover {
  /** Whether it used the ready session; else that one is for the next prompt. */
  readonly used: boolean;
  /** Sessions that nobody needs any more. */
  readonly close: readonly AgentSession[];
}

export interface Member extends MemberView {
  /** Starts the process and opens its first session. Rejects if that fails. */
  bringUp(): Promise<void>;
  /** Once it is up. */
  readonly agent: Agent | undefined;
  /** Ready → busy. */
  take(): Equipment;
  /** Busy → parked, and back. */
  park(parked: boolean): void;
  /** Busy → preparing → ready, with a session for this model if the last one was used; or rejects. */
  prepare(leftover: Leftover, model: string): Promise<void>;
  /** Measures its memory, if that is due. */
  weigh(): Promise<void>;
  /** Ends the process, in whatever phase it is. Resolves when nothing of it is left. */
  retire(): Promise<void>;
}

export function createMember(options: MemberOptions): Member {
  const { id, clock, log } = options;
  const startedAtMs = clock.monotonic();
  const retiring = new AbortController();
  let phase: Phase = "starting";
  let model = options.model;
  let turns = 0;
  let readyAtMs = startedAtMs;
  let memoryBytes = 0;
  let weighedAtMs = startedAtMs;
  let agent: Agent | undefined;
  let session: AgentSession | undefined;
  let up: Promise<unknown> = Promise.resolve();

  const isStopping = () => phase === "stopping";
  const becomeReady = (on: Agent, next: AgentSession, nextModel: string) => {
    // It may have been retired meanwhile.
    if (isStopping()) return;
    // Or have ended after its answer, before anybody listens for the end of a ready process.
    on.ended.throwIfAborted();
    session = next;
    model = nextModel;
    phase = "ready";
    readyAtMs = clock.monotonic();
  };

  async function start(): Promise<void> {
    const started = await options.startAgent(model, retiring.signal);
    agent = started;
    const onEnded = () => {
      // A prompt that runs there, or a session that is being opened, fails by itself.
      if (phase === "ready") options.onLost(started.ended.reason as DrawbridgeError);
    };
    started.ended.addEventListener("abort", onEnded, { once: true });
    becomeReady(started, await started.openSession(model), model);
    log.info({ pid: started.pid, ms: Math.round(readyAtMs - startedAtMs) }, "an agent process is ready");
  }

  async function weigh(): Promise<void> {
    const nowMs = clock.monotonic();
    if (agent?.pid === undefined || nowMs - weighedAtMs < options.measureGapMs) return;
    weighedAtMs = nowMs;
    memoryBytes = (await options.measure(agent.pid)) ?? memoryBytes;
  }

  return {
    id,
    startedAtMs,
    weigh,
    get phase() {
      return phase;
    },
    get model() {
      return model;
    },
    get turns() {
      return turns;
    },
    get readyAtMs() {
      return readyAtMs;
    },
    get agent() {
      return agent;
    },
    get memoryBytes() {
      return memoryBytes;
    },
    bringUp() {
      const starting = start();
      up = starting.catch(() => {
        // Whoever called bringUp hears of it; retire only waits for the end.
      });
      return starting;
    },
    take() {
      if (phase !== "ready" || !agent || !session) throw new Error(`process ${id} is ${phase}, not ready`);
      const equipment = { agent, session };
      phase = "busy";
      turns += 1;
      return equipment;
    },
    park(parked) {
      if (phase === "busy" || phase === "parked") phase = parked ? "parked" : "busy";
    },
    async prepare({ used, close }, nextModel) {
      if (!agent || isStopping()) return;
      agent.ended.throwIfAborted();
      phase = "preparing";
      const spare = used ? undefined : session;
      session = undefined;
      for (const each of close) await agent.closeSession(each);
      await weigh();
      if (spare) becomeReady(agent, spare, model);
      else becomeReady(agent, await agent.openSession(nextModel), nextModel);
    },
    async retire() {
      phase = "stopping";
      retiring.abort(new DrawbridgeError("DRAINING", "The agent process is not wanted any more."));
      await up;
      if (!agent) return;
      await agent.stop();
      const { skippedLines, strayFrames } = agent.connection.counts;
      log.info(
        { pid: agent.pid, turns, memory_bytes: memoryBytes, skipped_lines: skippedLines, stray_frames: strayFrames },
        "an agent process is gone",
      );
    },
  };
}
