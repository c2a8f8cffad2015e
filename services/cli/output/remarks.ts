// What an operator should know of an account beyond its row.
import type { Account } from "#gen/drawbridge/v1/account";
import { plainText } from "./text.ts";

/** Why it is not ready, and what else is so: a line each; none where all is well. */
export function remarkLines({ spec, conditions }: Account): string {
  const noteworthy = conditions.filter(({ type, status }) => (type === "Ready" ? !status : status));
  const messages = new Set(noteworthy.map(({ message }) => plainText(message)));
  return [...messages].map((message) => `${plainText(spec?.id ?? "")}: ${message}\n`).join("");
}
