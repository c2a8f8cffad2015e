// Aligned columns.
import { plainText } from "./text.ts";

export interface Column<Item> {
  readonly title: string;
  readonly text: (item: Item, now: number) => string;
  /** Numbers stand at the right. */
  readonly right?: boolean;
}

const gap = "  ";
/** An empty cell. */
const nothing = "-";

export interface Table<Item> {
  /** The page's lines; before those of the first page, the titles. */
  page(items: readonly Item[]): string;
}

/** A table that is printed page by page, so that it is never held as a whole: a later page only ever makes columns wider. */
export function createTable<Item>(columns: readonly Column<Item>[], now: number): Table<Item> {
  let widths: number[] | undefined;
  return {
    page(items) {
      const rows = items.map((item) => columns.map((column) => cellText(column.text(item, now))));
      if (!widths) rows.unshift(columns.map((column) => column.title));
      const wide = columns.map((_, index) =>
        Math.max(widths?.[index] ?? 0, ...rows.map((row) => lengthOf(row[index] ?? ""))),
      );
      widths = wide;
      return rows.map((row) => line(columns, row, wide)).join("");
    },
  };
}

function line<Item>(columns: readonly Column<Item>[], cells: readonly string[], widths: readonly number[]): string {
  const padded = cells.map((cell, index) => {
    const space = " ".repeat((widths[index] ?? 0) - lengthOf(cell));
    return columns[index]?.right ? space + cell : cell + space;
  });
  return `${padded.join(gap).trimEnd()}\n`;
}

/** One item, a field a line. */
export function fieldLines<Item>(columns: readonly Column<Item>[], item: Item, now: number): string {
  const width = Math.max(...columns.map((column) => column.title.length));
  return columns
    .map((column) => `${column.title.toLowerCase().padEnd(width)}${gap}${cellText(column.text(item, now))}\n`)
    .join("");
}

function cellText(text: string): string {
  return plainText(text).trim() || nothing;
}

/** Characters, not UTF-16 units. */
function lengthOf(text: string): number {
  return Array.from(text).length;
}
