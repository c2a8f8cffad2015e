// What is measured: something that listens on loopback and answers chat completions.

/** Which processes a contender consists of. */
export interface ContenderProcesses {
  /** Counted: what an operator of the contender pays for. By part, such as "up" and "worker". */
  readonly own: Readonly<Record<string, readonly number[]>>;
  /** Printed apart: the agents, or the upstream. */
  readonly far: readonly number[];
}

export interface Contender extends AsyncDisposable {
  readonly name: ContenderName;
  readonly port: number;
  /** What its requests carry, such as a key. */
  readonly headers: Readonly<Record<string, string>>;
  processes(): ContenderProcesses;
}

export const contenderNames = [
  "bare-proxy",
  "nginx",
  "haproxy",
  "undici",
  "fastify",
  "portkey",
  "drawbridge",
  "split-sqlite",
  "split-valkey",
] as const;
export type ContenderName = (typeof contenderNames)[number];

/** Whom all others are compared with: the first of these that takes part. */
export const baselines: readonly ContenderName[] = ["portkey", "bare-proxy"];

/** The same request for everybody. */
export const benchmarkModel = "bench";
