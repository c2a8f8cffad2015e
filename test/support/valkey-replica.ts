// A replica for a master of a Cluster, which takes its place when the other masters find it away.
import { Redis } from "ioredis";
import { until } from "./until.ts";
import { startValkeyProcess, type ValkeyCluster, type ValkeyProcess } from "./valkey.ts";

const host = "127.0.0.1";

export async function startReplica(cluster: ValkeyCluster, master: ValkeyProcess): Promise<ValkeyProcess> {
  await using starting = new AsyncDisposableStack();
  const replica = starting.use(
    await startValkeyProcess(["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]),
  );
  const ofMaster = starting.adopt(new Redis({ host, port: master.port }), (each) => each.disconnect());
  const own = starting.adopt(new Redis({ host, port: replica.port }), (each) => each.disconnect());
  await ofMaster.config("SET", "repl-diskless-sync-delay", "0");
  const masterId = String(await ofMaster.cluster("MYID"));
  await own.cluster("MEET", host, master.port);
  await until("the replica knows its master", async () => {
    await own.cluster("REPLICATE", masterId);
    return true;
  });
  await until("the replica follows", async () => (await own.info("replication")).includes("master_link_status:up"));
  for (const { port } of cluster.masters) {
    const client = new Redis({ host, port });
    try {
      await until("every master knows the replica", async () =>
        String(await client.cluster("NODES")).includes(`:${replica.port}@`),
      );
    } finally {
      client.disconnect();
    }
  }
  ofMaster.disconnect();
  own.disconnect();
  starting.move();
  return replica;
}
