import { RequestError } from "@agentclientprotocol/sdk/unstable";
import { describe, expect, it } from "vitest";
import type { AcpConnection } from "../../../services/worker/protocol/acp-connection.ts";
import { enterMode } from "../../../services/worker/protocol/session-mode.ts";
import { chooseModel, confirmModel } from "../../../services/worker/protocol/session-model.ts";
import { kiroProfile } from "../../../services/worker/profiles/kiro.ts";
import { claudeProfile } from "../../../services/worker/profiles/claude.ts";

type Answers = Readonly<Record<string, unknown>>;

/** An agent that answers by method, and what it was asked. */
function agent(answers: Answers = {}) {
  const asked: string[] = [];
  const request = async (method: string, params: Record<string, unknown>) => {
    asked.push(`${method} ${String(params["modeId"] ?? params["modelId"] ?? params["value"])}`);
    const answer = answers[method] ?? {};
    if (answer instanceof Error) throw answer;
    return answer;
  };
  return { asked, connection: { request } as unknown as AcpConnection };
}

const modes = (currentModeId: string, ...ids: string[]) => ({
  modes: { currentModeId, availableModes: ids.map((id) => ({ id })) },
});
const models = (currentModelId: string, ...ids: string[]) => ({
  models: { currentModelId, availableModels: ids.map((modelId) => ({ modelId })) },
});
const options = (currentValue: string, ...values: string[]) => ({
  configOptions: [{ id: "model", category: "model", currentValue, options: values.map((value) => ({ value })) }],
});

describe("the mode of a session", () => {
  it("is left alone where it is right, or where the agent has none", async () => {
    const { asked, connection } = agent();
    await enterMode(connection, "s", modes("drawbridge"), kiroProfile);
    await enterMode(connection, "s", {}, kiroProfile);
    expect(asked).toEqual([]);
  });

  it("is entered where it is offered, in either way", async () => {
    const { asked, connection } = agent();
    await enterMode(connection, "s", modes("auto", "default", "auto"), claudeProfile);
    const option = { id: "mode", category: "mode", currentValue: "auto", options: [{ value: "default" }] };
    await enterMode(connection, "s", { configOptions: [option] }, claudeProfile);
    expect(asked).toEqual(["session/set_mode default", "session/set_mode default"]);
  });

  it("that is not offered is a reason to refuse only where it is required", async () => {
    await enterMode(agent().connection, "s", modes("other", "other"), claudeProfile);
    await expect(enterMode(agent().connection, "s", modes("other", "other"), kiroProfile)).rejects.toThrow(/"other"/);
  });
});

describe("the model of a session", () => {
  it("is set by the older way where the newer one is only shown", async () => {
    const refusal = new RequestError(-32601, "Method not found");
    const { asked, connection } = agent({ "session/set_config_option": refusal });
    await chooseModel(connection, "s", options("a", "a", "b"), "b", true);
    expect(asked).toEqual(["session/set_config_option b", "session/set_model b"]);
  });

  it("that was not taken is refused where it is required", async () => {
    const { connection } = agent({ "session/set_config_option": options("a") });
    await expect(chooseModel(connection, "s", options("a", "a", "b"), "b", true)).rejects.toThrow(/"a" instead of "b"/);
    await chooseModel(connection, "s", options("a", "a", "b"), "b", false);
  });

  it("that is not offered is refused where it is required, unless the agent chooses", async () => {
    await expect(chooseModel(agent().connection, "s", models("a", "a"), "b", true)).rejects.toThrow(/instead of "b"/);
    await chooseModel(agent().connection, "s", models("a", "a"), "auto", true);
    await chooseModel(agent().connection, "s", models("a", "a"), "b", false);
  });

  it("of a process that was started with it is confirmed, and told again where it is another", async () => {
    const fine = agent();
    await confirmModel(fine.connection, "s", models("b", "a", "b"), "b");
    await confirmModel(fine.connection, "s", {}, "b");
    expect(fine.asked).toEqual([]);
    const told = agent();
    await confirmModel(told.connection, "s", models("a", "a", "b"), "b");
    expect(told.asked).toEqual(["session/set_model b"]);
    await expect(confirmModel(agent().connection, "s", models("a", "a"), "b")).rejects.toThrow(/instead of "b"/);
  });
});
