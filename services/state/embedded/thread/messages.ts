// What the store's thread and the rest of the process tell each other. Everything here survives a structured clone: messages of the contract are
// plain objects.
import { inspect } from "node:util";
import { DrawbridgeError, type Reason } from "../../../kit/errors.ts";

/** `method` is an index into `Surface.methods`. */
export type Call = readonly [id: number, method: number, args: readonly unknown[]];
export type Answer = readonly [id: number, result: unknown, fault?: Fault];

/** What a store offers, as it says itself when it is open. */
export interface Surface {
  /** Each with the part that it belongs to; "": the store's own. */
  readonly methods: readonly (readonly [part: string, name: string])[];
  /** Parts that tell when they change. */
  readonly observed: readonly string[];
}

/** What went wrong beside a call, for the log. */
export interface Problem {
  readonly level: "error" | "warn";
  readonly text: string;
  readonly error: unknown;
}

export type ToStore =
  | { readonly kind: "calls"; readonly calls: readonly Call[] }
  | { readonly kind: "watch" | "unwatch"; readonly part: string }
  /** Answers what was sent, closes the store and ends the thread. */
  | { readonly kind: "close" };

export type FromStore =
  | { readonly kind: "open"; readonly surface: Surface }
  | { readonly kind: "refused"; readonly fault: Fault }
  | { readonly kind: "answers"; readonly answers: readonly Answer[]; readonly changed: readonly string[] }
  | { readonly kind: "problem"; readonly problem: Problem };

/** An error on its way: a clone would lose its class, and with it the reason. */
export type Fault =
  | {
      readonly reason: Reason;
      readonly message: string;
      readonly retryAfterMs: number | undefined;
      readonly cause: unknown;
    }
  | { readonly error: unknown };

export function faultOf(error: unknown): Fault {
  if (!(error instanceof DrawbridgeError)) return { error: cloneable(error) };
  const { reason, message, retryAfterMs, cause } = error;
  return { reason, message, retryAfterMs, cause: cloneable(cause) };
}

export function errorOf(fault: Fault): unknown {
  if ("error" in fault) return fault.error;
  const { reason, message, retryAfterMs, cause } = fault;
  return new DrawbridgeError(reason, message, { cause, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) });
}

/** An error can be cloned; anything else that was thrown may not. */
function cloneable(error: unknown): unknown {
  return error === undefined || error instanceof Error ? error : new Error(inspect(error));
}
