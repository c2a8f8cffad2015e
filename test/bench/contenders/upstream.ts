// Each yardstick has a fake upstream of its own, so that its share can be told apart.
import { listeningPort, startModule } from "../processes.ts";

export async function startUpstream(
  stack: AsyncDisposableStack,
): Promise<{ readonly pid: number; readonly port: number }> {
  const upstream = stack.use(startModule(new URL("../upstream.ts", import.meta.url)));
  return { pid: upstream.pid, port: await listeningPort(upstream) };
}
