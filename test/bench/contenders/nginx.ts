// nginx as a proxy to the fake upstream: what a proxy can cost.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawnSync } from "node:child_process";
import { accepts, freePort, startProgram, waitFor } from "../processes.ts";
import type { Contender } from "./contender.ts";
import { startUpstream } from "./upstream.ts";

/** Its version; undefined: it is not on the PATH. */
export function nginxVersion(): string | undefined {
  const { stderr, error } = spawnSync("nginx", ["-v"], { encoding: "utf8" });
  return error ? undefined : stderr.trim().replace("nginx version: ", "");
}

/** One process, nothing written outside the folder, streams passed on as they come. */
function configuration(folder: string, port: number, upstreamPort: number): string {
  return `
daemon off;
master_process off;
pid ${folder}/nginx.pid;
error_log stderr warn;
worker_rlimit_nofile 16384;
events { worker_connections 8192; }
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  keepalive_requests 1000000;
  upstream far { server 127.0.0.1:${upstreamPort}; keepalive 1024; keepalive_requests 1000000; }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location / {
      proxy_pass http://far;
      proxy_http_version 1.1;
      proxy_set_header connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }
  }
}
`;
}

export async function startNginx(): Promise<Contender> {
  await using starting = new AsyncDisposableStack();
  const upstream = await startUpstream(starting);
  const folder = await mkdtemp(join(tmpdir(), "drawbridge-bench-nginx-"));
  starting.defer(() => rm(folder, { recursive: true, force: true }));
  const port = await freePort();
  const file = join(folder, "nginx.conf");
  await writeFile(file, configuration(folder, port, upstream.port));
  const nginx = starting.use(
    startProgram({ name: "nginx", command: "nginx", args: ["-p", folder, "-e", "stderr", "-c", file], folder }),
  );
  await waitFor("nginx to listen", nginx, 5_000, () => accepts(port));
  const resources = starting.move();
  return {
    name: "nginx",
    port,
    headers: { authorization: "Bearer bench" },
    processes: () => ({ own: { nginx: [nginx.pid] }, far: [upstream.pid] }),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}
