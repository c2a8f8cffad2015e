// Lists that come in pages.

/** The server's own limit. */
export const pageSizeMax = 1_000;

interface Page<Item> {
  readonly items: readonly Item[];
  readonly nextPageToken: string;
}

/** Pages until the last one, or until `limit` items. */
export async function* pages<Item>(
  fetch: (page: { readonly pageSize: number; readonly pageToken: string }) => Promise<Page<Item>>,
  limit = Number.POSITIVE_INFINITY,
): AsyncGenerator<readonly Item[], void, undefined> {
  let left = limit;
  let pageToken = "";
  do {
    const page = await fetch({ pageSize: Math.min(left, pageSizeMax), pageToken });
    yield page.items;
    left -= page.items.length;
    pageToken = page.nextPageToken;
  } while (pageToken !== "" && left > 0);
}
