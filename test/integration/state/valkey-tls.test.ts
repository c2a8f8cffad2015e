// A store that is reached by TLS, with a user and a password: a real server with a certificate of its own making.
import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { silentLog } from "../../../services/kit/log.ts";
import { openState } from "../../../services/state/open.ts";
import { admission, givenUser, quotaBooks, settlement } from "../../conformance/state/given.ts";
import { freePorts, startValkeyProcess, type ValkeyProcess } from "../../support/valkey.ts";

let folder: string;
let certificate: string;
let server: ValkeyProcess;
let address: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "drawbridge-tls-"));
  certificate = join(folder, "server.crt");
  const key = join(folder, "server.key");
  const subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
  const made = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-keyout", key, "-out", certificate];
  execFileSync("openssl", ["req", ...made, ...subject], { stdio: "pipe" });
  const [tlsPort = 0] = await freePorts(1);
  const tls = ["--tls-port", `${tlsPort}`, "--tls-cert-file", certificate, "--tls-key-file", key];
  const trust = ["--tls-ca-cert-file", certificate, "--tls-auth-clients", "no"];
  // A user of the store's own, beside the default one, which the other port is for.
  const user = ["--user", "drawbridge", "on", ">secret word", "~*", "&*", "+@all"];
  server = await startValkeyProcess([...tls, ...trust, ...user]);
  address = `127.0.0.1:${tlsPort}`;
});

afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

const open = (url: string) => openState(url, { log: silentLog });

test.each(["valkeys", "rediss"])("%s: operations and hints work over TLS, with user and password", async (scheme) => {
  const url = `${scheme}://drawbridge:secret%20word@${address}?ca=${encodeURIComponent(certificate)}&prefix=${scheme}:`;
  await using state = await open(url);
  await givenUser(state);
  await state.ledger.admit(admission());
  expect(await state.ledger.settle(settlement())).toMatchObject({ settled: true });
  expect(await quotaBooks(state)).toEqual({ granted: 1_000, available: 940, held: 0, spent: 60 });
});

test("a file of certificates that is not there is named", async () => {
  await expect(open(`rediss://${address}?ca=/nowhere/ca.pem`)).rejects.toThrow('"/nowhere/ca.pem"');
});
