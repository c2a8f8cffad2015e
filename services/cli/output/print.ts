// Prints what a command found: JSON for scripts, columns for people.
import type { Output } from "../shell.ts";
import { createTable, fieldLines } from "./table.ts";
import type { View } from "./views.ts";

export interface Printer {
  /** One object. */
  one<Item>(item: Item, view: View<Item>): Promise<void>;
  /** An array, page by page as it comes. */
  list<Item>(pages: AsyncIterable<readonly Item[]> | Iterable<readonly Item[]>, view: View<Item>): Promise<void>;
  /** Text that was made already, as it comes. */
  text(parts: AsyncIterable<string>): Promise<void>;
  /** An object of a form of its own, on one line; or its text. */
  object(json: object, text: () => string): Promise<void>;
}

/** A whole list as a table, or what stands there instead. */
export function tableText<Item>(items: readonly Item[], view: View<Item>, now: number): string {
  return items.length === 0 ? `${view.none}\n` : createTable(view.columns, now).page(items);
}

export interface PrinterOptions {
  readonly output: Output;
  readonly json: boolean;
  readonly now: () => number;
}

export function createPrinter({ output, json, now }: PrinterOptions): Printer {
  const object = (value: object, text: () => string) => output.write(json ? `${JSON.stringify(value)}\n` : text());
  return {
    object,
    async text(parts) {
      for await (const part of parts) await output.write(part);
    },
    one: (item, view) => object(view.json(item), () => fieldLines(view.columns, item, now())),
    list: (pages, view) => (json ? jsonArray(pages, view, output) : lines(pages, view, output, now())),
  };
}

type Pages<Item> = AsyncIterable<readonly Item[]> | Iterable<readonly Item[]>;

async function jsonArray<Item>(pages: Pages<Item>, view: View<Item>, output: Output): Promise<void> {
  let any = false;
  for await (const page of pages) {
    if (page.length === 0) continue;
    const rows = page.map((item) => JSON.stringify(view.json(item))).join(",\n  ");
    await output.write(`${any ? "," : "["}\n  ${rows}`);
    any = true;
  }
  await output.write(any ? "\n]\n" : "[]\n");
}

async function lines<Item>(pages: Pages<Item>, view: View<Item>, output: Output, now: number): Promise<void> {
  const table = createTable(view.columns, now);
  let any = false;
  for await (const page of pages) {
    if (page.length === 0) continue;
    await output.write(table.page(page));
    any = true;
  }
  if (!any) await output.write(`${view.none}\n`);
}
