// What the load generator is asked for, and what it answers. Both cross a process boundary as JSON.

export interface LoadPlan {
  readonly port: number;
  /** Beyond those that every request has. */
  readonly headers: Readonly<Record<string, string>>;
  /** The whole body of each request. */
  readonly body: string;
  /**
   * "closed": so many connections, each with its next request as soon as the last one was answered.
   * "once": one request on each connection, begun evenly over `spreadMs`.
   * "open": so many requests a second, whatever the answers do, on at most that many connections.
   */
  readonly arrivals:
    | { readonly kind: "closed"; readonly connections: number }
    | { readonly kind: "once"; readonly connections: number; readonly spreadMs: number }
    | { readonly kind: "open"; readonly perSecond: number; readonly connections: number };
  /** Chunks that a whole answer has; undefined: answers stay open. */
  readonly chunksExpected: number | undefined;
}

/** Since the plan began. */
export interface LoadCounters {
  /** Whole answers. */
  readonly requests: number;
  /** Chunks of answers, after any merging on the way is undone. */
  readonly chunks: number;
  /** Answers whose first chunk has come. */
  readonly firstChunks: number;
  /** Requests whose answers have not ended. */
  readonly open: number;
  /** Answers that were refused, broke, or were not whole. */
  readonly failures: number;
  /** What the first failure was. */
  readonly firstFailure: string | undefined;
  /** Requests that an open plan could not begin, since all its connections were busy. */
  readonly skipped: number;
}

export interface LoadResult extends LoadCounters {
  /** One for each answer that began, in order: from a request to its first chunk, less the time that the far end itself took, in microseconds. */
  readonly firstChunkMicros: readonly number[];
}

export type LoadCommand =
  | { readonly kind: "start"; readonly plan: LoadPlan }
  | { readonly kind: "sample" }
  /** Begins nothing new, waits up to `withinMs` for what is open, hangs up the rest. */
  | { readonly kind: "stop"; readonly withinMs: number };

export type LoadAnswer =
  | { readonly kind: "started" }
  | { readonly kind: "sample"; readonly counters: LoadCounters }
  | { readonly kind: "stopped"; readonly result: LoadResult };
