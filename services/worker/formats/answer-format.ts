// The form that an answer has to have: what the agent is told, and whether it kept to it.
import type { ResponseFormat } from "#gen/drawbridge/v1/prompt";
import { DrawbridgeError } from "../../kit/errors.ts";
import { isObject } from "../protocol/acp-connection.ts";
import type { SchemaValidator } from "./schema-validator.ts";

export interface AnswerFormat {
  /** For the agent. */
  readonly instruction: string;
  /** INVALID_ARGUMENT if the format itself cannot be used. */
  ready(): Promise<void>;
  check(answer: string): Promise<Checked>;
}

export type Checked =
  /** What the client gets. */
  { readonly kind: "valid"; readonly text: string } | { readonly kind: "invalid"; readonly problem: string };

/** undefined: any form will do. */
export function answerFormat(asked: ResponseFormat | undefined, validator: SchemaValidator): AnswerFormat | undefined {
  if (asked?.format.case === "jsonObject") return jsonObject;
  if (asked?.format.case !== "jsonSchema") return undefined;
  const { name, description, schemaJson } = asked.format.value;
  const about = [name && `Its name is ${name}.`, description].filter(Boolean).join(" ");
  return {
    instruction: `${onlyJson} It follows this JSON Schema.${about ? ` ${about}` : ""}\n${schemaJson}`,
    async ready() {
      const { problem, fault } = await validator.validate(schemaJson, undefined);
      if (fault === "schema")
        throw new DrawbridgeError("INVALID_ARGUMENT", `response_format: the schema cannot be used: ${problem}`);
      if (fault) throw new DrawbridgeError("INTERNAL", problem);
    },
    async check(answer) {
      const text = withoutFence(answer);
      const { problem, fault } = await validator.validate(schemaJson, text);
      return fault ? { kind: "invalid", problem } : { kind: "valid", text };
    },
  };
}

/** What the agent is told of an answer that does not do. */
export function correction(problem: string, { instruction }: AnswerFormat): string {
  return `Your last answer cannot be used: ${problem}\nAnswer the same question once more. ${instruction}`;
}

const onlyJson =
  "Answer with one JSON value and nothing else: no words before or after it, and no code fence around it.";

const jsonObject: AnswerFormat = {
  instruction: `${onlyJson} It is an object.`,
  ready: async () => {},
  async check(answer) {
    const text = withoutFence(answer);
    try {
      return isObject(JSON.parse(text))
        ? { kind: "valid", text }
        : { kind: "invalid", problem: "It is no JSON object." };
    } catch (error) {
      return { kind: "invalid", problem: `It is no JSON: ${String((error as Error).message)}` };
    }
  },
};

/** Models like to put JSON into a code fence, whatever they are told. */
export function withoutFence(answer: string): string {
  const text = answer.trim();
  const fenced = /^```[a-zA-Z]*\s*\n([\s\S]*)\n\s*```$/.exec(text);
  return fenced?.[1]?.trim() ?? text;
}
