// An entry of the usage ledger as scripts and spreadsheets read it: one row, as JSON, a line of JSON, or a line of CSV.
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { End, type UsageEntry, UsageSource } from "#gen/drawbridge/v1/usage";
import { nameOf } from "../kit/enum-name.ts";

/** Cost is in millionths of a dollar, credits in thousandths; the time is ISO 8601. Scripts rely on the names and their order. */
export function usageRow(entry: UsageEntry) {
  return {
    request_id: entry.requestId,
    user: entry.userId,
    key: entry.keyId,
    model: entry.model,
    account: entry.accountId,
    input_tokens: Number(entry.usage?.inputTokens ?? 0n),
    output_tokens: Number(entry.usage?.outputTokens ?? 0n),
    // Where nothing was counted, nobody reported it.
    source: nameOf(UsageSource, entry.usage?.source || UsageSource.ESTIMATED),
    cost: Number(entry.costMicros),
    credits: Number(entry.millicredits),
    end: nameOf(End, entry.end),
    at: entry.at ? timestampDate(entry.at).toISOString() : null,
  };
}

export const usageFormats = ["csv", "jsonl"] as const;
export type UsageFormat = (typeof usageFormats)[number];

export const usageContentTypes: Readonly<Record<UsageFormat, string>> = {
  csv: "text/csv; charset=utf-8",
  jsonl: "application/jsonl; charset=utf-8",
};

/** Pages of entries → text, a page at a time. CSV begins with a line of names. */
export async function* usageText(
  pages: AsyncIterable<readonly UsageEntry[]>,
  format: UsageFormat,
): AsyncGenerator<string, void, undefined> {
  if (format === "csv") yield csvLine(usageColumns);
  const line = format === "csv" ? csvRow : (entry: UsageEntry) => `${JSON.stringify(usageRow(entry))}\n`;
  for await (const entries of pages) {
    if (entries.length > 0) yield entries.map(line).join("");
  }
}

const usageColumns = [
  "request_id",
  "user",
  "key",
  "model",
  "account",
  "input_tokens",
  "output_tokens",
  "source",
  "cost",
  "credits",
  "end",
  "at",
] as const satisfies (keyof ReturnType<typeof usageRow>)[];

function csvRow(entry: UsageEntry): string {
  const row = usageRow(entry);
  return csvLine(usageColumns.map((column) => row[column] ?? ""));
}

/** As RFC 4180 has it. */
function csvLine(values: readonly (string | number)[]): string {
  const cells = values.map((value) => {
    const text = String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  });
  return `${cells.join(",")}\r\n`;
}
