// The fleet client over a real connection: what only the wire can refuse.
import { create } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { PromptSchema, Role } from "#gen/drawbridge/v1/prompt";
import { SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import { End } from "#gen/drawbridge/v1/usage";
import { WorkerService } from "#gen/drawbridge/v1/worker_service";
import { createFleetClient } from "../../../services/client/client.ts";
import { systemClock } from "../../../services/kit/clock.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { systemRandom } from "../../../services/kit/random.ts";
import { createDialer } from "../../../services/kit/rpc/client.ts";
import { mount, startRpcServer } from "../../../services/kit/rpc/server.ts";

it("runs a prompt whose scheduler and worker are behind a network, and the worker sees the deadline", async () => {
  const seen = { deadlineMs: undefined as number | undefined, reported: [] as End[] };
  await using server = await startRpcServer({
    listen: { host: "127.0.0.1", port: 0 },
    services: [
      mount(SchedulerService, {
        acquire: ({ attemptId, requestId }) => ({ lease: { attemptId, requestId, accountId: "a", workerId: "w" } }),
        report: ({ outcome }) => {
          if (outcome) seen.reported.push(outcome.end);
          return { settled: true };
        },
      }),
      mount(WorkerService, {
        async *prompt({ attemptId, requestId, accountId }, context) {
          seen.deadlineMs = context.timeoutMs();
          yield { events: [{ event: { case: "started", value: { attemptId } } }] };
          yield { events: [{ event: { case: "text", value: { text: "hello" } } }], outputTokens: 1n };
          const outcome = { attemptId, requestId, accountId, end: End.FINISHED, content: true };
          yield { events: [{ event: { case: "finished", value: { outcome } } }], outputTokens: 1n };
        },
      }),
    ],
    authorize: () => {},
    ready: () => true,
    log: silentLog,
  });
  await using dialer = createDialer({ token: "" });
  await using fleet = createFleetClient({
    scheduler: dialer.client(SchedulerService, server.address, { unreachable: "STATE_UNAVAILABLE" }),
    worker: () => dialer.client(WorkerService, server.address, { unreachable: "WORKER_UNREACHABLE" }),
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
  });
  const prompt = create(PromptSchema, {
    model: "m",
    messages: [{ role: Role.USER, parts: [{ part: { case: "text", value: "hi" } }] }],
  });
  const kinds: (string | undefined)[] = [];
  const { signal } = new AbortController();
  for await (const batch of fleet.run({ requestId: "req_1", prompt, timeoutMs: 20_000, signal })) {
    kinds.push(...batch.events.map(({ event }) => event.case));
  }
  expect(kinds).toEqual(["started", "text", "finished"]);
  expect(seen.deadlineMs).toBeGreaterThan(0);
  expect(seen.reported).toEqual([End.FINISHED]);
});
