// The command as a process: what it loads, and readers that leave.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";

const run = promisify(execFile);
const entry = fileURLToPath(new URL("../../../services/drawbridge.ts", import.meta.url));
const environment = { PATH: process.env["PATH"], DRAWBRIDGE_URL: "http://127.0.0.1:9", DRAWBRIDGE_ADMIN_KEY: "k" };

/** Writes the name of every loaded module to standard error. */
const reporter = `data:text/javascript,${encodeURIComponent(`
  import { registerHooks } from "node:module";
  registerHooks({ load: (url, context, next) => (process.stderr.write("loads " + url + "\\n"), next(url, context)) });
`)}`;

describe("a client command", () => {
  it("loads nothing of the services, so that it starts at once", async () => {
    const words = ["--import", reporter, entry, "user", "get", "alice"];
    const failed = run(process.execPath, words, { cwd: tmpdir(), env: environment });
    const { stderr } = await failed.then(
      () => Promise.reject(new Error("nothing listens there")),
      (error: unknown) => error as { stderr: string },
    );
    const loaded = stderr.split("\n").filter((line) => line.startsWith("loads "));
    expect(loaded.some((line) => line.includes("connect-node"))).toBe(true);
    expect(loaded.filter((line) => /fastify|sqlite|ioredis|pino|tokenizer|agentclientprotocol/.test(line))).toEqual([]);
    expect(
      loaded.filter((line) => /services\/(gateway|scheduler|registry|controller|worker|state)\//.test(line)),
    ).toEqual([]);
  });
});

describe("a reader that leaves", () => {
  it("is no failure", async () => {
    const child = spawn(process.execPath, [entry, "--help"], { env: environment, stdio: ["ignore", "pipe", "pipe"] });
    child.stdout.destroy();
    const [errors, [code]] = await Promise.all([text(child.stderr), once(child, "close")]);
    expect([code, errors]).toEqual([0, ""]);
  });
});
