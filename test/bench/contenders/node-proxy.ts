// Yardsticks in Node: a module that proxies to the fake upstream and announces its port.
import { listeningPort, startModule } from "../processes.ts";
import type { Contender, ContenderName } from "./contender.ts";
import { startUpstream } from "./upstream.ts";

export async function startNodeProxy(name: ContenderName, file: string): Promise<Contender> {
  await using starting = new AsyncDisposableStack();
  const upstream = await startUpstream(starting);
  const proxy = starting.use(startModule(new URL(file, import.meta.url), [String(upstream.port)]));
  const port = await listeningPort(proxy);
  const resources = starting.move();
  return {
    name,
    port,
    headers: { authorization: "Bearer bench" },
    processes: () => ({ own: { proxy: [proxy.pid] }, far: [upstream.pid] }),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}
