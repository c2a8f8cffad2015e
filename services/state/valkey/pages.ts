// Pages of what an index lists by id.
import type { Argument, Connection } from "./connection.ts";
import { texts } from "./replies.ts";

/**
 * A page after an id. An id without a record is skipped, and the page filled up: what is short is the last page.
 */
export async function listById<T>(
  connection: Connection,
  index: string,
  { afterId, limit }: { readonly afterId: string; readonly limit: number },
  load: (ids: readonly string[]) => Promise<(T | undefined)[]>,
): Promise<T[]> {
  const page: T[] = [];
  let after = afterId;
  while (page.length < limit) {
    const range: Argument[] = [after === "" ? "-" : `(${after}`, "+", "LIMIT", 0, limit - page.length];
    const ids = texts(await connection.command("ZRANGEBYLEX", index, ...range)).map((id) => id ?? "");
    if (ids.length === 0) break;
    page.push(...(await load(ids)).filter((each) => each !== undefined));
    after = ids.at(-1) ?? "";
  }
  return page;
}
