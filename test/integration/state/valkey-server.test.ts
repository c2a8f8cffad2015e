// Where tests get their Valkey server from. The one that VALKEY_URL names is used, and missed if it is not there: nothing else is taken instead.
import { afterEach, expect, test, vi } from "vitest";
import { startValkey, startValkeyProcess } from "../../support/valkey.ts";

afterEach(() => vi.unstubAllEnvs());

test("VALKEY_URL comes first", async () => {
  await using server = await startValkeyProcess();
  const url = `valkey://127.0.0.1:${server.port}`;
  vi.stubEnv("VALKEY_URL", url);
  await using given = await startValkey();
  expect(given.url).toBe(url);
});

test("a VALKEY_URL that does not answer is a failure", async () => {
  const server = await startValkeyProcess();
  await server[Symbol.asyncDispose]();
  vi.stubEnv("VALKEY_URL", `valkey://127.0.0.1:${server.port}`);
  await expect(startValkey()).rejects.toThrow(/VALKEY_URL names a server that does not answer/);
});

test("without it there is a server all the same: a container, or a program of this machine", async () => {
  vi.stubEnv("VALKEY_URL", undefined);
  await using own = await startValkey();
  expect(own.url).toMatch(/^valkey:\/\//);
});
