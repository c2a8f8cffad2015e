// What a driver can do: run workers somewhere. The same contract holds for every driver.
import type { WorkerSpec } from "#gen/drawbridge/v1/account";

/** A worker that a driver runs. */
export interface WorkerProcess {
  readonly workerId: string;
  /** What it was started with. */
  readonly spec: WorkerSpec;
  /** 0: the driver's workers have none that means something here. */
  readonly pid: number;
  /** Wall time, in ms. */
  readonly startedAt: number;
}

/** The end of a worker. */
export interface WorkerExit extends WorkerProcess {
  /** undefined: ended by a signal. */
  readonly code: number | undefined;
  readonly signal: string | undefined;
  /** Whether destroy asked for it. */
  readonly requested: boolean;
}

export interface WorkerDriver extends AsyncDisposable {
  /** A leader begins: from now on those of lower epochs are refused, whatever this one does. NOT_LEADER for an epoch lower than one that was seen. */
  claim(epoch: number, signal: AbortSignal): Promise<void>;
  /**
   * Starts a worker; resolves when its process runs, or is bound to (a Pod waits for a node and for its image), which is before it registers. A worker
   * of that id that runs already is left alone.
   * NOT_LEADER as above. Disposing the driver ends the workers that cannot outlive it.
   */
  create(spec: WorkerSpec, epoch: number, signal: AbortSignal): Promise<void>;
  /** Ends a worker; resolves when it is gone. No error if it is not there. NOT_LEADER as above. */
  destroy(workerId: string, epoch: number): Promise<void>;
  /** Workers that run now. */
  list(): Promise<readonly WorkerProcess[]>;
  /** Told of each end, asked for or not. */
  onExit(listener: (exit: WorkerExit) => void): Disposable;
}
