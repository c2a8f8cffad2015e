// What the server answers, read as what it must be.

/** A text or a number as text; undefined: the server has none. */
export function text(reply: unknown): string | undefined {
  if (reply === null || reply === undefined) return undefined;
  if (typeof reply === "string" || typeof reply === "number") return String(reply);
  throw new TypeError(`The store answered with ${typeof reply} where a text was expected.`);
}

/** A list of texts, some of them absent. */
export function texts(reply: unknown): (string | undefined)[] {
  if (!Array.isArray(reply)) throw new TypeError("The store answered with no list where one was expected.");
  return reply.map(text);
}

/** Alternating members and scores, as ZRANGE … WITHSCORES gives them. */
export function scored(reply: unknown): { readonly member: string; readonly score: number }[] {
  return pairs(reply).map(([member, score]) => ({ member, score: Number(score) }));
}

/** Alternating names and values, as HGETALL gives them. */
export function fields(reply: unknown): Map<string, string> {
  return new Map(pairs(reply));
}

function pairs(reply: unknown): [string, string][] {
  const flat = texts(reply);
  return Array.from({ length: flat.length / 2 }, (_, index) => [flat[2 * index] ?? "", flat[2 * index + 1] ?? ""]);
}
