// The load generator's own HTTP client: what it counts must be what was sent, however the bytes arrive.
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { setImmediate as turn } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { createConnection } from "../../bench/load/connection.ts";

const chunked =
  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1a;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n";
const sized = "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 5\r\n\r\nsorry";
const empty = "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n";

/** Answers each request with the next of the answers, in pieces of so many bytes. */
async function serve(answers: readonly string[], pieceBytes: number): Promise<number> {
  const left = [...answers];
  const send = async (socket: Socket) => {
    const answer = left.shift();
    if (answer === undefined) socket.destroy();
    else {
      for (let at = 0; at < answer.length; at += pieceBytes) {
        socket.write(answer.slice(at, at + pieceBytes));
        await turn();
      }
    }
  };
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on("data", () => void send(socket)).on("error", () => socket.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

async function exchangeAll(answers: readonly string[], pieceBytes: number) {
  const port = await serve(answers, pieceBytes);
  let body = "";
  using connection = createConnection({ port, onBody: (bytes) => (body += bytes.toString()) });
  const seen: { status: number; body: string }[] = [];
  for (const _ of answers) {
    body = "";
    const status = await connection.exchange(Buffer.from("GET / HTTP/1.1\r\n\r\n"));
    seen.push({ status, body });
  }
  return seen;
}

test.each([1, 2, 3, 7, 1_000])(
  "answers in pieces of %i bytes are read whole, one after the other",
  async (pieceBytes) => {
    expect(await exchangeAll([chunked, sized, empty, chunked], pieceBytes)).toEqual([
      { status: 200, body: "helloabcdefghijklmnopqrstuvwxyz" },
      { status: 429, body: "sorry" },
      { status: 204, body: "" },
      { status: 200, body: "helloabcdefghijklmnopqrstuvwxyz" },
    ]);
  },
);

test("an answer that breaks off is a failure", async () => {
  const port = await serve([], 1);
  using connection = createConnection({ port, onBody: () => {} });
  await expect(connection.exchange(Buffer.from("GET / HTTP/1.1\r\n\r\n"))).rejects.toThrow(/closed|ECONNRESET/);
});
