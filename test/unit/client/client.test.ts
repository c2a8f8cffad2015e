import { create } from "@bufbuild/protobuf";
import { beforeEach, describe, expect, test } from "vitest";
import { MessageSchema, type Prompt, PromptSchema, Role, StopReason } from "#gen/drawbridge/v1/prompt";
import { type AcquireRequest, LeaseSchema } from "#gen/drawbridge/v1/scheduler_service";
import { End, type Outcome, OutcomeSchema } from "#gen/drawbridge/v1/usage";
import { PromptFailureSchema, type PromptResponse, PromptResponseSchema } from "#gen/drawbridge/v1/worker_service";
import { createFleetClient, type FleetClientSettings } from "../../../services/client/client.ts";
import type { SchedulerCalls, WorkerCalls } from "../../../services/client/fleet-client.ts";
import { outcomeOf } from "../../../services/client/outcome.ts";
import { continuedConversation } from "../../../services/kit/conversation-key.ts";
import { DrawbridgeError, type Reason } from "../../../services/kit/errors.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

/** What one account's worker does with a prompt. */
type Behaviour = (attempt: Attempt) => AsyncGenerator<PromptResponse>;

interface Attempt {
  readonly attemptId: string;
  readonly signal: AbortSignal;
  /** Resolves when the prompt is cancelled by call. */
  readonly cancelled: Promise<void>;
}

const prompt: Prompt = create(PromptSchema, { model: "m" });

const batch = (event: object, outputTokens = 0n) =>
  create(PromptResponseSchema, { events: [{ event: event as never }], outputTokens });
const started = batch({ case: "started", value: { inputTokensEstimate: 7n } });
const text = (value: string, outputTokens = 1n) => batch({ case: "text", value: { text: value } }, outputTokens);

function outcome(attemptId: string, fields: object): Outcome {
  return create(OutcomeSchema, { attemptId, requestId: "r", accountId: "a", ...fields });
}

function finished(attemptId: string, end: End = End.FINISHED, stopReason: StopReason = StopReason.END_TURN) {
  return batch({ case: "finished", value: { stopReason, outcome: outcome(attemptId, { end, content: true }) } });
}

async function* answer({ attemptId }: Attempt) {
  yield started;
  yield text("hello");
  yield finished(attemptId);
}

const failing = (reason: Reason, content = false): Behaviour =>
  async function* fail({ attemptId }) {
    yield started;
    if (content) yield text("hel", 5n);
    const end = content ? End.FAILED_AFTER_CONTENT : End.FAILED_BEFORE_CONTENT;
    const failure = create(PromptFailureSchema, { outcome: outcome(attemptId, { end, content }) });
    throw new DrawbridgeError(reason, "It failed.", { detail: { desc: PromptFailureSchema, value: failure } });
  };

let clock: VirtualClock;
/** Accounts in the order in which the scheduler gives them. */
let accounts: Map<string, Behaviour>;
let acquired: string[];
let conversations: string[];
let reports: Outcome[];
/** Attempts that were given up. */
let released: string[];
/** Called by acquire, which then waits until its caller leaves. */
let onQueued: ((attemptId: string) => void) | undefined;
/** What the scheduler says to a report instead. */
let refusal: DrawbridgeError | undefined;
let cancels: Map<string, PromiseWithResolvers<void>>;

beforeEach(() => {
  clock = new VirtualClock();
  accounts = new Map();
  acquired = [];
  conversations = [];
  reports = [];
  released = [];
  onQueued = undefined;
  refusal = undefined;
  cancels = new Map();
});

function client(settings: Partial<FleetClientSettings> = {}) {
  const scheduler = {
    acquire: async (
      { attemptId, excludedAccountIds, conversation }: AcquireRequest,
      { signal }: { signal: AbortSignal },
    ) => {
      if (onQueued) {
        const queued = Promise.withResolvers<never>();
        signal.addEventListener("abort", () => queued.reject(new DrawbridgeError("CANCELLED", "The caller left.")));
        onQueued(attemptId);
        await queued.promise;
      }
      conversations.push(conversation);
      const accountId = [...accounts.keys()].find((id) => !excludedAccountIds.includes(id));
      if (accountId === undefined) throw new DrawbridgeError("NO_WORKER", "Nobody.");
      acquired.push(accountId);
      const lease = create(LeaseSchema, {
        attemptId,
        requestId: "r",
        accountId,
        workerId: "w",
        workerAddress: accountId,
      });
      return { lease };
    },
    report: async ({ outcome: told }: { outcome: Outcome }) => {
      if (refusal) throw refusal;
      reports.push(told);
      return { settled: true };
    },
    release: async ({ attemptId }: { attemptId: string }) => {
      if (refusal) throw refusal;
      released.push(attemptId);
      return { released: true };
    },
  } as unknown as SchedulerCalls;
  const worker = (address: string) =>
    ({
      prompt: ({ attemptId }: { attemptId: string }, { signal }: { signal: AbortSignal }) => {
        const cancelled = Promise.withResolvers<void>();
        cancels.set(attemptId, cancelled);
        return (accounts.get(address) ?? answer)({ attemptId, signal, cancelled: cancelled.promise });
      },
      cancelPrompt: async ({ attemptId }: { attemptId: string }) => {
        cancels.get(attemptId)?.resolve();
        return { found: cancels.has(attemptId) };
      },
    }) as unknown as WorkerCalls;
  return createFleetClient({ scheduler, worker, clock, random: () => 0.5, log: silentLog, settings });
}

async function run(
  fleet = client(),
  signal = new AbortController().signal,
  asked: Prompt = prompt,
): Promise<PromptResponse[]> {
  const batches: PromptResponse[] = [];
  for await (const each of fleet.run({ requestId: "r", prompt: asked, timeoutMs: 60_000, signal })) batches.push(each);
  return batches;
}

const kinds = (batches: PromptResponse[]) => batches.map(({ events }) => events.map(({ event }) => event.case));

test("the conversation that a request continues is named to the scheduler, at every attempt", async () => {
  accounts.set("a", failing("AGENT_ERROR")).set("b", answer);
  const messages = [Role.USER, Role.ASSISTANT, Role.USER].map((role) => create(MessageSchema, { role }));
  const asked = create(PromptSchema, { model: "m", conversationScope: "user-1", messages });
  await run(client(), undefined, asked);
  expect(conversations).toEqual([continuedConversation(asked), continuedConversation(asked)]);
  expect(conversations[0]).not.toBe("");
});

describe("an answer", () => {
  test("is passed on, the start with the first content, and its lease is reported", async () => {
    accounts.set("a", answer);
    expect(kinds(await run())).toEqual([["started", "text"], ["finished"]]);
    expect(reports).toMatchObject([{ end: End.FINISHED }]);
  });

  test("whose lease cannot be reported is passed on, and the lease is reported when the scheduler is back", async () => {
    accounts.set("a", answer);
    refusal = new DrawbridgeError("STATE_UNAVAILABLE", "Away.");
    await using fleet = client();
    expect(kinds(await run(fleet))).toEqual([["started", "text"], ["finished"]]);
    await clock.advance(5_000);
    refusal = undefined;
    await clock.advance(1_000);
    expect(reports).toMatchObject([{ end: End.FINISHED }]);
    await clock.advance(60_000);
    expect(reports).toHaveLength(1);
  });

  test("whose report is refused is not reported again", async () => {
    accounts.set("a", answer);
    refusal = new DrawbridgeError("INVALID_ARGUMENT", "No.");
    await using fleet = client();
    await run(fleet);
    refusal = undefined;
    await clock.advance(60_000);
    expect(reports).toEqual([]);
  });

  test("that its worker never ended is a failure with what was seen", async () => {
    accounts.set("a", async function* cut() {
      yield started;
      yield text("hel", 5n);
    });
    const error = await run().catch((reason: unknown) => reason);
    expect(error).toMatchObject({ reason: "WORKER_UNREACHABLE" });
    const expected = { end: End.FAILED_AFTER_CONTENT, usage: { inputTokens: 7n, outputTokens: 5n } };
    expect(outcomeOf(error)).toMatchObject(expected);
    expect(reports).toMatchObject([expected]);
  });
});

describe("a failure before content", () => {
  test("moves on to another account, of which nothing was told before", async () => {
    accounts.set("a", failing("AGENT_ERROR")).set("b", answer);
    expect(kinds(await run())).toEqual([["started", "text"], ["finished"]]);
    expect(acquired).toEqual(["a", "b"]);
    expect(reports.map((each) => each.end)).toEqual([End.FAILED_BEFORE_CONTENT, End.FINISHED]);
  });

  test("of a process is tried again where there is no other account", async () => {
    accounts.set("a", failing("AGENT_CRASHED"));
    await expect(run()).rejects.toMatchObject({ reason: "AGENT_CRASHED" });
    expect(acquired).toEqual(["a", "a"]);
  });

  test("of an account is not", async () => {
    accounts.set("a", failing("AGENT_UNAUTHENTICATED"));
    await expect(run()).rejects.toMatchObject({ reason: "AGENT_UNAUTHENTICATED" });
    expect(acquired).toEqual(["a"]);
  });

  test.each<Reason>(["CONTEXT_LENGTH_EXCEEDED", "UNSUPPORTED_CONTENT", "INVALID_ARGUMENT"])(
    "that would be the same elsewhere ends it: %s",
    async (reason) => {
      accounts.set("a", failing(reason)).set("b", answer);
      await expect(run()).rejects.toMatchObject({ reason });
      expect(acquired).toEqual(["a"]);
    },
  );

  test("is tried three times at most", async () => {
    for (const id of ["a", "b", "c", "d"]) accounts.set(id, failing("AGENT_ERROR"));
    await expect(run()).rejects.toMatchObject({ reason: "AGENT_ERROR" });
    expect(acquired).toEqual(["a", "b", "c"]);
  });

  test("costs no more retries than the budget has, and time gives some back", async () => {
    accounts.set("a", failing("AGENT_ERROR")).set("b", answer);
    const fleet = client({ retryShare: 0, retryBurst: 1, retryPerSecond: 1 });
    await run(fleet);
    await expect(run(fleet)).rejects.toMatchObject({ reason: "AGENT_ERROR" });
    await clock.advance(1_000);
    await run(fleet);
  });
});

test("a failure after content never moves on", async () => {
  accounts.set("a", failing("AGENT_CRASHED", true)).set("b", answer);
  const error = await run().catch((reason: unknown) => reason);
  expect(error).toMatchObject({ reason: "AGENT_CRASHED" });
  expect(outcomeOf(error)).toMatchObject({ end: End.FAILED_AFTER_CONTENT });
  expect(acquired).toEqual(["a"]);
});

describe("a caller that leaves", () => {
  test("while it waits for a lease gives its attempt up, and surely: the lease may be on its way", async () => {
    const leaving = new AbortController();
    const asked: string[] = [];
    onQueued = (attemptId) => {
      asked.push(attemptId);
      leaving.abort();
    };
    refusal = new DrawbridgeError("STATE_UNAVAILABLE", "Away.");
    await using fleet = client();
    expect(kinds(await run(fleet, leaving.signal))).toEqual([["finished"]]);
    expect(released).toEqual([]);
    refusal = undefined;
    await clock.advance(1_000);
    expect(released).toEqual(asked);
    expect(asked).toHaveLength(1);
  });

  test("gets the agent stopped, and the end with what was produced", async () => {
    accounts.set("a", async function* endless({ attemptId, cancelled }) {
      yield started;
      yield text("hel");
      await cancelled;
      yield finished(attemptId, End.CANCELLED, StopReason.CANCELLED);
    });
    const leaving = new AbortController();
    const batches: PromptResponse[] = [];
    for await (const each of client().run({ requestId: "r", prompt, timeoutMs: 60_000, signal: leaving.signal })) {
      batches.push(each);
      leaving.abort();
    }
    expect(kinds(batches)).toEqual([["started", "text"], ["finished"]]);
    expect(reports).toMatchObject([{ end: End.CANCELLED }]);
  });

  test("gets an end even if the worker does not listen", async () => {
    accounts.set("a", async function* deaf({ signal }) {
      yield started;
      yield text("hel", 3n);
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
    });
    const leaving = new AbortController();
    const running = run(client({ cancelBoundMs: 5_000 }), leaving.signal);
    await clock.advance(1);
    leaving.abort();
    await clock.advance(5_000);
    expect(kinds(await running)).toEqual([["started", "text"], ["finished"]]);
    expect(reports).toMatchObject([{ end: End.CANCELLED, usage: { outputTokens: 3n } }]);
  });

  test("while a lease was on its way gives it back", async () => {
    accounts.set("a", answer);
    expect(kinds(await run(client(), AbortSignal.abort()))).toEqual([["finished"]]);
    expect(reports).toMatchObject([{ end: End.CANCELLED, content: false }]);
    expect(cancels.size).toBe(0);
  });

  test("by no longer reading is reported too", async () => {
    accounts.set("a", answer);
    const signal = new AbortController().signal;
    for await (const _batch of client().run({ requestId: "r", prompt, timeoutMs: 60_000, signal })) break;
    expect(reports).toMatchObject([{ end: End.CANCELLED, content: true }]);
  });
});
