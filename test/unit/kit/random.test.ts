// Names that nobody else has.
import { expect, test } from "vitest";
import { newId } from "../../../services/kit/random.ts";

test("a new name is its kind and 24 letters and digits, and no two are the same", () => {
  const names = Array.from({ length: 10_000 }, () => newId("req"));
  for (const name of names) expect(name).toMatch(/^req_[0-9a-hjkmnp-tv-z]{24}$/);
  expect(new Set(names).size).toBe(names.length);
});

test("names sort by when they were made", async () => {
  const names: string[] = [];
  while (names.length < 20) {
    names.push(newId("req"));
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
  expect(names.toSorted()).toEqual(names);
});
