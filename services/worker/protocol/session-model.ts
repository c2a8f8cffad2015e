// Choosing the model of a session, in whichever of the two ways the agent offers. A model that the agent does not offer is left alone.
import { methods } from "@agentclientprotocol/sdk/unstable";
import { type AcpConnection, isObject } from "./acp-connection.ts";
import type { Frame } from "./framing.ts";

export type ModelChoice =
  | { readonly kind: "option"; readonly configId: string; readonly value: string }
  | { readonly kind: "set_model"; readonly modelId: string }
  | { readonly kind: "none" };

/** `opened`: what session/new answered. */
export function findModelChoice(opened: Frame, model: string): ModelChoice {
  for (const option of objects(opened["configOptions"])) {
    if (option["category"] !== "model" || typeof option["id"] !== "string") continue;
    const values = objects(option["options"]).flatMap((entry) =>
      "options" in entry ? objects(entry["options"]) : [entry],
    );
    const found = values.find((entry) => entry["value"] === model) ?? values.find((entry) => entry["name"] === model);
    if (typeof found?.["value"] === "string") return { kind: "option", configId: option["id"], value: found["value"] };
  }
  const models = isObject(opened["models"]) ? objects(opened["models"]["availableModels"]) : [];
  return models.some((each) => each["modelId"] === model) ? { kind: "set_model", modelId: model } : { kind: "none" };
}

export async function chooseModel(
  connection: AcpConnection,
  sessionId: string,
  opened: Frame,
  model: string,
): Promise<void> {
  const choice = findModelChoice(opened, model);
  if (choice.kind === "option") {
    const { configId, value } = choice;
    await connection.request(methods.agent.session.setConfigOption, { sessionId, configId, value });
  } else if (choice.kind === "set_model") {
    await connection.request("session/set_model", { sessionId, modelId: choice.modelId });
  }
}

function objects(value: unknown): readonly Frame[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}
