// Several servers of one service as one: calls take turns, and go on to the next one where one is away. One more or less changes nothing for
// who calls.
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { CallOptions, Client } from "@connectrpc/connect";
import type { Clock } from "../clock.ts";
import { asDrawbridgeError, DrawbridgeError, type Reason } from "../errors.ts";
import type { Dialer } from "./client.ts";

/** One that was away is asked last for so long, in ms. */
const awayMs = 1_000;

export interface Turns<Each> {
  /** All of them: `first` or the one whose turn it is in front, those that were just away at the end. */
  inOrder(first?: Each): Each[];
  /** Does the work with the first of them that is there. */
  call<T>(work: (each: Each) => Promise<T>, options: TurnOptions<Each>): Promise<T>;
  /** The same for a stream; one that has begun stays where it is. */
  stream<T>(open: (each: Each) => AsyncIterable<T>, options: TurnOptions<Each>): AsyncGenerator<T, void, undefined>;
}

export interface TurnOptions<Each> {
  /** Aborted: nobody else is asked any more. */
  readonly signal: AbortSignal | undefined;
  readonly first?: Each | undefined;
  /** Whether the work may be done by another one although the first may have done it. */
  readonly repeatable?: boolean;
}

export function takeTurns<Each extends object>(all: readonly Each[], clock: Clock): Turns<Each> {
  const awayUntil = new WeakMap<Each, number>();
  let turn = 0;

  const inOrder = (first?: Each): Each[] => {
    turn = (turn + 1) % all.length;
    const rotated = [...all.slice(turn), ...all.slice(0, turn)];
    const now = clock.monotonic();
    const rank = (each: Each) => ((awayUntil.get(each) ?? 0) > now ? 2 : each === first ? 0 : 1);
    return rotated.sort((a, b) => rank(a) - rank(b));
  };
  /** Returns if the next one is to be asked; throws the failure where that would change nothing, or do the work twice. */
  const passOn = (each: Each, error: unknown, { signal, repeatable = true }: TurnOptions<Each>): void => {
    const { reason } = asDrawbridgeError(error);
    if (signal?.aborted || !(reason in elsewhere)) throw error;
    if (reason === "STATE_UNAVAILABLE") {
      if (!repeatable && !wasNeverSent(error)) throw error;
      awayUntil.set(each, clock.monotonic() + awayMs);
    }
  };

  return {
    inOrder,
    async call(work, options) {
      let failure: unknown;
      for (const each of inOrder(options.first)) {
        try {
          return await work(each);
        } catch (error) {
          passOn(each, error, options);
          failure = error;
        }
      }
      throw failure;
    },
    async *stream(open, options) {
      let failure: unknown;
      for (const each of inOrder(options.first)) {
        let begun = false;
        try {
          for await (const element of open(each)) {
            begun = true;
            yield element;
          }
          return;
        } catch (error) {
          if (begun) throw error;
          passOn(each, error, options);
          failure = error;
        }
      }
      throw failure;
    },
  };
}

/** What another one may answer better. */
const elsewhere: Partial<Record<Reason, true>> = { STATE_UNAVAILABLE: true, NOT_LEADER: true };
const notSentCodes = ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH"];

/** Whether there was no connection that a call could have gone over. */
function wasNeverSent(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code } = error as NodeJS.ErrnoException;
  return (code !== undefined && notSentCodes.includes(String(code))) || wasNeverSent(error.cause);
}

export interface ReplicaOptions {
  readonly clock: Clock;
  /** Whether a call that may have been done may be repeated elsewhere. Default: those that the contract says have no side effects. */
  readonly repeatable?: (method: DescMethod) => boolean;
}

type AnyCall = (request: unknown, options: CallOptions | undefined) => unknown;

/** Unary and server-streaming methods only. */
export function joinReplicas<Service extends DescService>(
  service: Service,
  replicas: readonly Client<Service>[],
  { clock, repeatable = hasNoSideEffects }: ReplicaOptions,
): Client<Service> {
  const [only] = replicas;
  if (!only) throw new DrawbridgeError("INVALID_ARGUMENT", `There is no ${service.name} to call.`);
  if (replicas.length === 1) return only;
  const turns = takeTurns(replicas as readonly Record<string, AnyCall>[], clock);
  const joined: Record<string, unknown> = {};
  for (const method of service.methods) {
    const { localName: name } = method;
    const turnOptions = (options: CallOptions | undefined) => ({
      signal: options?.signal,
      repeatable: repeatable(method),
    });
    joined[name] =
      method.methodKind === "unary"
        ? (request: unknown, options?: CallOptions) =>
            turns.call((each) => each[name]?.(request, options) as Promise<unknown>, turnOptions(options))
        : (request: unknown, options?: CallOptions) =>
            turns.stream((each) => each[name]?.(request, options) as AsyncIterable<unknown>, turnOptions(options));
  }
  return joined as Client<Service>;
}

function hasNoSideEffects(method: DescMethod): boolean {
  return method.methodKind !== "unary" || method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
}

export interface DialOptions extends ReplicaOptions {
  readonly dialer: Dialer;
  readonly addresses: readonly string[];
}

/** A client of all servers of a service that share a store. */
export function dialReplicas<Service extends DescService>(
  service: Service,
  { dialer, addresses, ...options }: DialOptions,
): Client<Service> {
  const clients = addresses.map((address) => dialer.client(service, address, { unreachable: "STATE_UNAVAILABLE" }));
  return joinReplicas(service, clients, options);
}
