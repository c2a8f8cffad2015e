// Which methods a path takes, for whoever comes with another one.
import type { FastifyInstance } from "fastify";

/** Those that routes here are made for; HEAD goes with GET. */
const methods = ["GET", "POST", "DELETE"] as const;

/** Call it before routes are added: those with parameters are known from then on. */
export function watchMethods(app: FastifyInstance): (path: string) => string[] {
  const patterns = new Set<string>();
  app.addHook("onRoute", ({ url }) => void (/[:*]/.test(url) && patterns.add(url)));
  return (path) => {
    const urls = [path, ...[...patterns].filter((pattern) => matches(pattern, path))];
    return methods.filter((method) => urls.some((url) => app.hasRoute({ method, url })));
  };
}

/** `:name` is one part of a path, `*` all the rest of it. */
function matches(pattern: string, path: string): boolean {
  const expected = pattern.split("/");
  const parts = path.split("/");
  if (expected.at(-1) === "*") parts.splice(expected.length);
  return (
    parts.length === expected.length &&
    expected.every((each, index) => each === "*" || each === parts[index] || (each.startsWith(":") && parts[index]))
  );
}
