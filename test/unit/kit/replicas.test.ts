import type { Client } from "@connectrpc/connect";
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { FleetService } from "#gen/drawbridge/v1/fleet_service";
import {
  RegistryService,
  type WatchWorkersResponse,
  WatchWorkersResponseSchema,
} from "#gen/drawbridge/v1/registry_service";
import { DrawbridgeError, type Reason } from "../../../services/kit/errors.ts";
import { joinReplicas } from "../../../services/kit/rpc/replicas.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

interface Trouble {
  readonly reason: Reason;
  /** What is underneath, such as a refused connection. */
  readonly code?: string;
  /** Elements of a stream before it. Default 0. */
  readonly after?: number;
}

/** A replica that notes what it is called for, and answers with its name. */
function replica(name: string, calls: string[]) {
  const state: { trouble: Trouble | undefined } = { trouble: undefined };
  const fail = ({ reason, code }: Trouble): never => {
    throw new DrawbridgeError(reason, "No.", { cause: code && Object.assign(new Error(code), { code }) });
  };
  const answer = (method: string) => async () => {
    calls.push(`${name} ${method}`);
    if (state.trouble) fail(state.trouble);
    return { revision: name };
  };
  const methods = Object.fromEntries(
    ["heartbeat", "listWorkers", "getStatus", "createAccount", "reconcile"].map((each) => [each, answer(each)]),
  );
  async function* watchWorkers(): AsyncGenerator<WatchWorkersResponse> {
    calls.push(`${name} watchWorkers`);
    for (let element = 0; element < (state.trouble?.after ?? 0); element += 1) yield create(WatchWorkersResponseSchema);
    if (state.trouble) fail(state.trouble);
    yield create(WatchWorkersResponseSchema);
  }
  return { client: { ...methods, watchWorkers } as unknown, state };
}

function given() {
  const calls: string[] = [];
  const [a, b] = [replica("a", calls), replica("b", calls)];
  const clock = new VirtualClock();
  const registry = joinReplicas(RegistryService, [a.client, b.client] as Client<typeof RegistryService>[], {
    clock,
    repeatable: () => true,
  });
  const fleet = joinReplicas(FleetService, [a.client, b.client] as Client<typeof FleetService>[], { clock });
  return { a, b, calls, clock, registry, fleet };
}

test("calls take turns, and go on where one is away, which is left out for a while", async () => {
  const { a, calls, clock, registry } = given();
  for (let call = 0; call < 4; call += 1) await registry.heartbeat({});
  expect(calls.filter((call) => call === "a heartbeat")).toHaveLength(2);
  a.state.trouble = { reason: "STATE_UNAVAILABLE" };
  calls.length = 0;
  for (let call = 0; call < 6; call += 1) await registry.heartbeat({});
  expect(calls.filter((call) => call === "a heartbeat")).toHaveLength(1);
  expect(calls.filter((call) => call === "b heartbeat")).toHaveLength(6);
  a.state.trouble = undefined;
  await clock.advance(1_000);
  calls.length = 0;
  await registry.heartbeat({});
  await registry.heartbeat({});
  expect(calls.toSorted()).toEqual(["a heartbeat", "b heartbeat"]);
});

test("where all are away, the call fails; a refusal is an answer", async () => {
  const { a, b, calls, registry } = given();
  a.state.trouble = b.state.trouble = { reason: "STATE_UNAVAILABLE" };
  await expect(registry.listWorkers({})).rejects.toMatchObject({ reason: "STATE_UNAVAILABLE" });
  expect(calls).toHaveLength(2);
  a.state.trouble = b.state.trouble = { reason: "NOT_FOUND" };
  await expect(registry.heartbeat({})).rejects.toMatchObject({ reason: "NOT_FOUND" });
  expect(calls).toHaveLength(3);
});

test("what only the leader does finds the leader", async () => {
  const { a, calls, fleet } = given();
  a.state.trouble = { reason: "NOT_LEADER" };
  for (let call = 0; call < 4; call += 1) await fleet.reconcile({});
  expect(calls.filter((call) => call === "b reconcile")).toHaveLength(4);
});

test("a change that may have been made is not made again elsewhere; one that never arrived is, and so is a question", async () => {
  const { a, b, calls, fleet } = given();
  a.state.trouble = b.state.trouble = { reason: "STATE_UNAVAILABLE" };
  await expect(fleet.createAccount({})).rejects.toMatchObject({ reason: "STATE_UNAVAILABLE" });
  expect(calls).toHaveLength(1);
  a.state.trouble = { reason: "STATE_UNAVAILABLE", code: "ECONNREFUSED" };
  b.state.trouble = undefined;
  for (let call = 0; call < 2; call += 1) await fleet.createAccount({});
  expect(calls.filter((call) => call === "b createAccount").length).toBeGreaterThanOrEqual(2);
  a.state.trouble = { reason: "STATE_UNAVAILABLE" };
  for (let call = 0; call < 2; call += 1) await fleet.getStatus({});
});

test("a stream goes on to the next before it has begun, and breaks after it", async () => {
  const { a, b, calls, registry } = given();
  a.state.trouble = { reason: "STATE_UNAVAILABLE" };
  for (let call = 0; call < 2; call += 1) {
    let elements = 0;
    for await (const _element of registry.watchWorkers({})) elements += 1;
    expect(elements).toBe(1);
  }
  a.state.trouble = b.state.trouble = { reason: "STATE_UNAVAILABLE", after: 2 };
  calls.length = 0;
  let elements = 0;
  const watching = (async () => {
    for await (const _element of registry.watchWorkers({})) elements += 1;
  })();
  await expect(watching).rejects.toMatchObject({ reason: "STATE_UNAVAILABLE" });
  expect({ elements, calls: calls.length }).toEqual({ elements: 2, calls: 1 });
});

test("a call that was cancelled goes nowhere else", async () => {
  const { a, b, calls, registry } = given();
  a.state.trouble = b.state.trouble = { reason: "STATE_UNAVAILABLE" };
  await expect(registry.heartbeat({}, { signal: AbortSignal.abort() })).rejects.toThrow();
  expect(calls).toHaveLength(1);
});
