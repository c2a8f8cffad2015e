import { expect, test } from "vitest";
import { compareBytes, comparePositions, pagePosition, pageToken } from "../../../services/state/paging.ts";

const position = { at: Date.UTC(2026, 0, 1), requestId: `r "ü"\n{}`, userId: "u" };

test("a page token leads back to its place", () => {
  expect(pagePosition(pageToken(position))).toEqual(position);
});

test.each([
  ["words", "no token"],
  ["other JSON", Buffer.from(`{"at":1}`).toString("base64url")],
  ["too few parts", Buffer.from(`[1,"r"]`).toString("base64url")],
  ["too many parts", Buffer.from(`[1,"r","u",2]`).toString("base64url")],
  ["a time that is none", Buffer.from(`["1","r","u"]`).toString("base64url")],
])("%s are no page token", (_title, token) => {
  expect(() => pagePosition(token)).toThrow(expect.objectContaining({ reason: "INVALID_ARGUMENT" }));
});

test("places are ordered by time, then by the bytes of request and user", () => {
  const places = [
    { ...position, at: 1 },
    { ...position, at: 2, requestId: "\uffff" },
    { ...position, at: 2, requestId: "\u{1f3f0}", userId: "a" },
    { ...position, at: 2, requestId: "\u{1f3f0}", userId: "b" },
  ];
  expect([...places].reverse().toSorted(comparePositions)).toEqual(places);
});

test("text is ordered by its bytes, whatever characters it has", () => {
  const texts = [
    "",
    "a",
    "aa",
    "b",
    "\u007f",
    "é",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "\u{10000}",
    "\u{1f3f0}",
    "\u{1f3f0}a",
    "\u{1f3f1}",
  ];
  const byBytes = texts.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  expect(texts.toReversed().toSorted(compareBytes)).toEqual(byBytes);
  for (const text of texts) expect(compareBytes(text, `${text}`)).toBe(0);
});
