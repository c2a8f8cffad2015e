// Page tokens: the last id of the page, wrapped so that nobody builds one by hand.
import { DrawbridgeError } from "../../kit/errors.ts";

const prefix = "after:";

export function pageTokenAfter(id: string): string {
  return Buffer.from(`${prefix}${id}`).toString("base64url");
}

/** The id that the page begins after; empty: the first page. */
export function readPageToken(token: string): string {
  if (token === "") return "";
  const text = Buffer.from(token, "base64url").toString();
  if (text.startsWith(prefix)) return text.slice(prefix.length);
  throw new DrawbridgeError(
    "INVALID_ARGUMENT",
    "page_token: not one of ours. Take next_page_token of the page before, or none.",
  );
}
