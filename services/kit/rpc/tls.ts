// TLS in front of a server: certificate and key from files, which are read again when they change.
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { Server } from "node:net";
import { createServer, type SecureContextOptions } from "node:tls";
import { DrawbridgeError } from "../errors.ts";
import type { Log } from "../log.ts";

export interface TlsFiles {
  /** The certificate chain, PEM. */
  readonly certFile: string;
  /** Its private key, PEM. */
  readonly keyFile: string;
  /** How often the files are looked at, in ms. Default 5,000. */
  readonly lookEveryMs?: number;
}

const defaultLookEveryMs = 5_000;

/** A server that hands decrypted connections to `inner`. INVALID_ARGUMENT for files that cannot be used. */
export function createTlsFront(inner: Server, files: TlsFiles, log: Log): Server {
  let current = readPair(files);
  const front = openFront(current);
  front.on("secureConnection", (socket) => inner.emit("connection", socket));
  const timer = setInterval(() => {
    void (async () => {
      try {
        const pair = { cert: await readFile(files.certFile, "utf8"), key: await readFile(files.keyFile, "utf8") };
        if (pair.cert === current.cert && pair.key === current.key) return;
        // Two files do not change at once: a pair that does not fit is looked at again the next time.
        front.setSecureContext(pair);
        current = pair;
        log.info({ file: files.certFile }, "the TLS certificate was read again");
      } catch (error) {
        log.warn({ err: error, file: files.certFile }, "the changed TLS files cannot be used; the old ones stay");
      }
    })();
  }, files.lookEveryMs ?? defaultLookEveryMs);
  timer.unref();
  front.once("close", () => clearInterval(timer));
  return front;
}

function openFront(pair: SecureContextOptions) {
  try {
    return createServer({
      ...pair,
      // Plain routes are HTTP/1.1, so HTTP/2 is for who speaks nothing else, as gRPC does.
      ALPNCallback: ({ protocols }) => ["http/1.1", "h2"].find((protocol) => protocols.includes(protocol)),
    });
  } catch (error) {
    throw unusable(error);
  }
}

function readPair({ certFile, keyFile }: TlsFiles): { readonly cert: string; readonly key: string } {
  try {
    return { cert: readFileSync(certFile, "utf8"), key: readFileSync(keyFile, "utf8") };
  } catch (error) {
    throw unusable(error);
  }
}

function unusable(error: unknown): DrawbridgeError {
  const why = error instanceof Error ? error.message : String(error);
  return new DrawbridgeError("INVALID_ARGUMENT", `The TLS certificate or its key cannot be used: ${why}.`, {
    cause: error,
  });
}
