// Who is connected to a Valkey server, as the server tells it.
import { Redis } from "ioredis";

/** Names of the connections to the server on a port, but for the one that asks. */
export async function connectionNames(port: number): Promise<string[]> {
  const client = new Redis({ host: "127.0.0.1", port });
  try {
    const id = await client.client("ID");
    const lines = String(await client.client("LIST"))
      .trim()
      .split("\n");
    const field = (line: string, name: string) => new RegExp(`(?:^| )${name}=(\\S*)`).exec(line)?.[1] ?? "";
    return lines
      .filter((line) => field(line, "id") !== String(id))
      .map((line) => field(line, "name"))
      .toSorted();
  } finally {
    client.disconnect();
  }
}
