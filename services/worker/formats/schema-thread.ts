// The thread of the schema validator: one job at a time.
import { parentPort } from "node:worker_threads";
import { Ajv, type AnySchema, type ValidateFunction } from "ajv";
import { Ajv2020 } from "ajv/dist/2020.js";
import type { Validation, ValidationJob } from "./schema-validator.ts";

/** Formats are hints; unknown keywords are no errors. */
const settings = { strict: false, validateFormats: false, allErrors: false, addUsedSchema: false } as const;

/** The schema of the last job, since the same one comes twice for each answer. */
let compiled: { readonly schemaJson: string; readonly validate: ValidateFunction } | undefined;

function compile(schemaJson: string): ValidateFunction {
  if (compiled?.schemaJson === schemaJson) return compiled.validate;
  const schema = JSON.parse(schemaJson) as AnySchema;
  // An asynchronous schema would answer with a promise.
  const { $schema, $async: _, ...rest } = typeof schema === "object" ? schema : {};
  const recent = typeof $schema === "string" && /\/(2019-09|2020-12)\//.test($schema);
  const validate = new (recent ? Ajv2020 : Ajv)(settings).compile(typeof schema === "object" ? rest : schema);
  compiled = { schemaJson, validate };
  return validate;
}

function validate({ schemaJson, text }: ValidationJob): Validation {
  let check: ValidateFunction;
  try {
    check = compile(schemaJson);
  } catch (error) {
    return { fault: "schema", problem: (error as Error).message };
  }
  if (text === undefined) return { fault: undefined, problem: "" };
  try {
    if (check(JSON.parse(text)) === true) return { fault: undefined, problem: "" };
  } catch (error) {
    return { fault: "text", problem: `It is no JSON: ${(error as Error).message}` };
  }
  const [first] = check.errors ?? [];
  const where = first?.instancePath ? `at ${first.instancePath} ` : "";
  return { fault: "text", problem: `It does not follow the schema: ${where}it ${first?.message ?? "does not match"}.` };
}

parentPort?.on("message", (job: ValidationJob) => parentPort?.postMessage(validate(job)));
