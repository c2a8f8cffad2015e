// The whole fleet for people: who leads, workers, accounts, and what is wrong.
import type { GetStatusResponse } from "#gen/drawbridge/v1/fleet_service";
import { tableText } from "./print.ts";
import { remarkLines } from "./remarks.ts";
import { plainText } from "./text.ts";
import { accountView, workerView } from "./views.ts";

export function statusText({ leader, workers, accounts }: GetStatusResponse, now: number): string {
  const parts = [
    `leader  ${plainText(leader) || "none: nothing is started or replaced until a controller leads"}\n`,
    tableText(workers, workerView, now),
    tableText(accounts, accountView, now),
    accounts.map((account) => remarkLines(account)).join(""),
  ];
  return parts.filter((part) => part !== "").join("\n");
}
