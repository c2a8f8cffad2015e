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
  readonly authorization: string;
  processes(): ContenderProcesses;
}

export const contenderNames = ["bare-proxy", "nginx", "drawbridge"] as const;
export type ContenderName = (typeof contenderNames)[number];

/** The contender that all others are compared with. */
export const baseline: ContenderName = "bare-proxy";

/** The same request for everybody. */
export const benchmarkModel = "bench";
