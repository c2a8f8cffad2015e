// docs/scheduling.md is written by hand; this holds its table of retries to the code.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { afterFailure } from "../../../services/client/retry-policy.ts";

const page = readFileSync(new URL("../../../docs/scheduling.md", import.meta.url), "utf8");

test("every failure that moves on is documented as it is, and no other", () => {
  const rows = [...page.matchAll(/^\| `([A-Z_]+)` \| another account(.*) \|$/gm)];
  const documented = rows.map(([, reason = "", rest = ""]) => [reason, rest.includes("same one") ? "again" : "move"]);
  expect(Object.fromEntries(documented)).toEqual(afterFailure);
});
