// The yardstick: a bare node:http proxy in front of the fake upstream.
import { listeningPort, startModule } from "../processes.ts";
import type { Contender } from "./contender.ts";
import { startUpstream } from "./upstream.ts";

export async function startBareProxy(): Promise<Contender> {
  await using starting = new AsyncDisposableStack();
  const upstream = await startUpstream(starting);
  const proxy = starting.use(startModule(new URL("./bare-proxy-server.ts", import.meta.url), [String(upstream.port)]));
  const port = await listeningPort(proxy);
  const resources = starting.move();
  return {
    name: "bare-proxy",
    port,
    authorization: "Bearer bench",
    processes: () => ({ own: { proxy: [proxy.pid] }, far: [upstream.pid] }),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}
