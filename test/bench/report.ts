// Turns the values of all rounds into a table for people and a record for programs.
import type { ContenderName } from "./contenders/contender.ts";
import { baselines, contenderNames } from "./contenders/contender.ts";
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

/** Whom the others are compared with: the peer, or the bare proxy where it did not take part. */
export function baselineOf(rows: readonly Row[]): ContenderName {
  return baselines.find((name) => rows.some((row) => row.values.has(name))) ?? "bare-proxy";
}

/** To the baseline's median. */
function ratio(row: Row, contender: ContenderName, baseline: ContenderName): number | undefined {
  const own = summarize(row.values.get(contender) ?? []);
  const base = summarize(row.values.get(baseline) ?? []);
  return own && base && contender !== baseline && base.median > 0 ? own.median / base.median : undefined;
}

/** A block for each scenario: a line for each contender, a column for each main metric, and what it is made of at the end. */
export function table(rows: readonly Row[]): string {
  const baseline = baselineOf(rows);
  const blocks = [...Map.groupBy(rows, (row) => row.scenario)].map(([scenario, all]) => {
    const title = `${all[0]?.title} [${scenario}]`;
    return `${title}\n${block(all, baseline)}`;
  });
  return `${blocks.join("\n\n")}\n`;
}

function block(rows: readonly Row[], baseline: ContenderName): string {
  const main = rows.filter((row) => row.role === "main");
  const parts = rows.filter((row) => row.role === "part");
  const names = contenderNames.filter((name) => rows.some((row) => row.values.has(name)));
  const lines = [
    ["", ...main.map((row) => `${row.metric}, ${row.unit}`), ""],
    ...names.map((name) => [`  ${name}`, ...main.map((row) => cell(row, name, baseline)), partsOf(parts, name)]),
  ];
  const widths = lines[0]?.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0))) ?? [];
  const layout = (line: readonly string[]) =>
    line.map((text, column) => text.padEnd((widths[column] ?? 0) + 2)).join("");
  return lines.map((line) => layout(line).trimEnd()).join("\n");
}

function partsOf(parts: readonly Row[], name: ContenderName): string {
  return parts
    .flatMap((row) => {
      const summary = summarize(row.values.get(name) ?? []);
      return summary ? [`${row.metric.replace(/^of it /, "")} ${format(summary.median)} ${row.unit}`] : [];
    })
    .join(" · ");
}

function cell(row: Row, contender: ContenderName, baseline: ContenderName): string {
  const summary = summarize(row.values.get(contender) ?? []);
  if (!summary) return "–";
  const spread = row.values.get(contender)?.length === 1 ? "" : ` (${format(summary.min)}–${format(summary.max)})`;
  const times = ratio(row, contender, baseline);
  return `${format(summary.median)}${spread}${times === undefined ? "" : ` ×${times.toPrecision(2)}`}`;
}

function format(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function record(rows: readonly Row[], facts: Readonly<Record<string, unknown>>): string {
  const baseline = baselineOf(rows);
  const measures = rows.flatMap((row) =>
    [...row.values].map(([contender, values]) => ({
      scenario: row.scenario,
      metric: row.metric,
      unit: row.unit,
      contender,
      ...summarize(values),
      ratio: ratio(row, contender, baseline),
      values,
    })),
  );
  return `${JSON.stringify({ ...facts, baseline, measures }, undefined, 2)}\n`;
}
