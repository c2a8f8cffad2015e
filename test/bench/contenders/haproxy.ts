// HAProxy as a proxy to the fake upstream.
import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { accepts, freePort, startProgram, waitFor } from "../processes.ts";
import type { Contender } from "./contender.ts";
import { startUpstream } from "./upstream.ts";

/** Its version; undefined: it is not on the PATH. */
export function haproxyVersion(): string | undefined {
  const { stdout, error } = spawnSync("haproxy", ["-v"], { encoding: "utf8" });
  return error ? undefined : /version (\S+)/.exec(stdout)?.[1];
}

/** One thread, as the others have. */
function configuration(port: number, upstreamPort: number): string {
  return `
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  option http-no-delay
frontend public
  bind 127.0.0.1:${port} backlog 4096
  default_backend far
backend far
  http-reuse always
  server upstream 127.0.0.1:${upstreamPort} pool-max-conn 1024
`;
}

export async function startHaproxy(): Promise<Contender> {
  await using starting = new AsyncDisposableStack();
  const upstream = await startUpstream(starting);
  const folder = await mkdtemp(join(tmpdir(), "drawbridge-bench-haproxy-"));
  starting.defer(() => rm(folder, { recursive: true, force: true }));
  const port = await freePort();
  const file = join(folder, "haproxy.cfg");
  await writeFile(file, configuration(port, upstream.port));
  const haproxy = starting.use(
    startProgram({ name: "haproxy", command: "haproxy", args: ["-db", "-f", file], folder }),
  );
  await waitFor("haproxy to listen", haproxy, 5_000, () => accepts(port));
  const resources = starting.move();
  return {
    name: "haproxy",
    port,
    headers: { authorization: "Bearer bench" },
    processes: () => ({ own: { haproxy: [haproxy.pid] }, far: [upstream.pid] }),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}
