// Turns the values of all rounds into a table for people and a record for programs.
import type { ContenderName } from "./contenders/contender.ts";
import { baseline, contenderNames } from "./contenders/contender.ts";
import type { Metric } from "./scenarios.ts";

export interface Row {
  readonly scenario: string;
  readonly title: string;
  readonly metric: string;
  readonly unit: string;
  readonly role: Metric["role"];
  readonly values: ReadonlyMap<ContenderName, readonly number[]>;
}

export interface Results {
  record(
    scenario: { readonly name: string; readonly title: string },
    contender: ContenderName,
    metrics: readonly Metric[],
  ): void;
  rows(): readonly Row[];
}

export function createResults(): Results {
  const rows = new Map<string, Row & { values: Map<ContenderName, number[]> }>();
  return {
    record({ name: scenario, title }, contender, metrics) {
      for (const { name: metric, unit, role, value } of metrics) {
        const key = `${scenario}\n${metric}`;
        const row = rows.get(key) ?? {
          scenario,
          title,
          metric,
          unit,
          role,
          values: new Map<ContenderName, number[]>(),
        };
        rows.set(key, row);
        row.values.set(contender, [...(row.values.get(contender) ?? []), value]);
      }
    },
    rows: () => [...rows.values()],
  };
}

export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function summarize(values: readonly number[]): Summary | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [low = Number.NaN, high = Number.NaN] = [sorted[sorted.length % 2 === 0 ? middle - 1 : middle], sorted[middle]];
  if (sorted.length === 0) return undefined;
  return { median: (low + high) / 2, min: sorted[0] ?? Number.NaN, max: sorted.at(-1) ?? Number.NaN };
}

/** To the baseline's median. */
function ratio(row: Row, contender: ContenderName): number | undefined {
  const own = summarize(row.values.get(contender) ?? []);
  const base = summarize(row.values.get(baseline) ?? []);
  return own && base && contender !== baseline && base.median > 0 ? own.median / base.median : undefined;
}

export function table(rows: readonly Row[]): string {
  const shown = contenderNames.filter((name) => rows.some((row) => row.values.has(name)));
  const lines: string[][] = [["", ...shown]];
  let scenario = "";
  for (const row of rows) {
    if (row.scenario !== scenario) lines.push([], [`${row.title} [${row.scenario}]`]);
    ({ scenario } = row);
    const label = `${row.role === "part" ? "    " : "  "}${row.metric}, ${row.unit}`;
    lines.push([label, ...shown.map((name) => cell(row, name))]);
  }
  // A title runs over all columns.
  const cells = lines.filter((line) => line.length > 1);
  const widths = ["", ...shown].map((_, column) => Math.max(...cells.map((line) => line[column]?.length ?? 0)));
  const layout = (line: readonly string[]) =>
    line.length < 2 ? (line[0] ?? "") : line.map((text, column) => text.padEnd((widths[column] ?? 0) + 2)).join("");
  return `${lines.map((line) => layout(line).trimEnd()).join("\n")}\n`;
}

function cell(row: Row, contender: ContenderName): string {
  const summary = summarize(row.values.get(contender) ?? []);
  if (!summary) return "–";
  const spread = row.values.get(contender)?.length === 1 ? "" : ` (${format(summary.min)}–${format(summary.max)})`;
  const times = row.role === "main" ? ratio(row, contender) : undefined;
  return `${format(summary.median)}${spread}${times === undefined ? "" : ` ×${times.toPrecision(2)}`}`;
}

function format(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function record(rows: readonly Row[], facts: Readonly<Record<string, unknown>>): string {
  const measures = rows.flatMap((row) =>
    [...row.values].map(([contender, values]) => ({
      scenario: row.scenario,
      metric: row.metric,
      unit: row.unit,
      contender,
      ...summarize(values),
      ratio: ratio(row, contender),
      values,
    })),
  );
  return `${JSON.stringify({ ...facts, baseline, measures }, undefined, 2)}\n`;
}
