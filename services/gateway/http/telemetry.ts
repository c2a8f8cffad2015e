// What happened, published for whoever counts or traces it. The code that does the work knows these channels only.
import { channel } from "node:diagnostics_channel";
import type { Priority } from "#gen/drawbridge/v1/scheduler_service";

export interface RequestEnd {
  readonly route: string;
  readonly status: number;
  /** The public model, where one was named that exists; else empty, so that clients cannot make labels up. */
  readonly model: string;
  /** How the answer ended, as in the ledger; empty where none was begun. */
  readonly end: string;
  readonly durationMs: number;
  readonly firstContentMs: number | undefined;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly costMicros: number;
}

/** A request that was refused because of overload. */
export interface RequestShed {
  readonly cause: string;
  readonly priority: Priority;
}

export const requestShed = channel("drawbridge:gateway:request:shed");
export const requestStarted = channel("drawbridge:gateway:request:start");
export const requestEnded = channel("drawbridge:gateway:request:end");
