// The model of a session, in whichever of the two ways the agent offers, and whether the agent took it.
import { methods, RequestError } from "@agentclientprotocol/sdk/unstable";
import { DrawbridgeError } from "../../kit/errors.ts";
import { type AcpConnection, isObject, objectsOf } from "./acp-connection.ts";
import type { Frame } from "./framing.ts";

export type ModelChoice =
  | { readonly kind: "option"; readonly configId: string; readonly value: string }
  | { readonly kind: "set_model"; readonly modelId: string }
  | { readonly kind: "none" };

/** `opened`: what session/new answered. */
export function findModelChoice(opened: Frame, model: string): ModelChoice {
  for (const option of objectsOf(opened["configOptions"])) {
    if (option["category"] !== "model" || typeof option["id"] !== "string") continue;
    const values = objectsOf(option["options"]).flatMap((entry) =>
      "options" in entry ? objectsOf(entry["options"]) : [entry],
    );
    const found = values.find((entry) => entry["value"] === model) ?? values.find((entry) => entry["name"] === model);
    if (typeof found?.["value"] === "string") return { kind: "option", configId: option["id"], value: found["value"] };
  }
  const models = isObject(opened["models"]) ? objectsOf(opened["models"]["availableModels"]) : [];
  return models.some((each) => each["modelId"] === model) ? { kind: "set_model", modelId: model } : { kind: "none" };
}

/** The model that an answer says is in use; undefined: it does not say. */
export function currentModel(answer: unknown): string | undefined {
  if (!isObject(answer)) return undefined;
  const option = objectsOf(answer["configOptions"]).find((each) => each["category"] === "model");
  const current =
    option?.["currentValue"] ?? (isObject(answer["models"]) ? answer["models"]["currentModelId"] : undefined);
  return typeof current === "string" ? current : undefined;
}

/** A model that the agent does not offer is left alone, or refused with AGENT_ERROR where it is required. */
export async function chooseModel(
  connection: AcpConnection,
  sessionId: string,
  opened: Frame,
  model: string,
  required: boolean,
): Promise<void> {
  const choice = findModelChoice(opened, model);
  const setModel = async (modelId: string): Promise<unknown> =>
    await connection.request("session/set_model", { sessionId, modelId });
  if (choice.kind === "option") {
    const { configId, value } = choice;
    const answer: unknown = await connection
      .request(methods.agent.session.setConfigOption, { sessionId, configId, value })
      .catch((error: unknown) => {
        // It shows options, and has only the older way to choose.
        if (error instanceof RequestError && error.code === methodNotFound) return setModel(value);
        throw error;
      });
    if (required) refuseOther(currentModel(answer), value);
  } else if (choice.kind === "set_model") {
    const answer = await setModel(choice.modelId);
    if (required) refuseOther(currentModel(answer), choice.modelId);
  } else if (required && model !== agentsOwn) {
    refuseOther(currentModel(opened), model);
  }
}

const methodNotFound = -32601;

/** What stands for the agent's own choice. */
const agentsOwn = "auto";

/**
 * For a process that got its model when it started. One that says it runs another is told again: which of the two ways an agent heeds
 * changed between versions.
 */
export async function confirmModel(
  connection: AcpConnection,
  sessionId: string,
  opened: Frame,
  model: string,
): Promise<void> {
  const current = currentModel(opened);
  if (current === undefined || current === model || model === agentsOwn) return;
  await chooseModel(connection, sessionId, opened, model, true);
}

function refuseOther(current: string | undefined, wanted: string): void {
  if (current === undefined || current === wanted) return;
  throw new DrawbridgeError("AGENT_ERROR", `The agent runs the model "${current}" instead of "${wanted}".`);
}
