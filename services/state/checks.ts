// What every implementation refuses before it touches anything: amounts that are none, and ids that are empty.
import { DrawbridgeError } from "../kit/errors.ts";
import type { AdmitRequest, LeaseRequest, SettleRequest } from "./state.ts";

/** The largest amount of money, credits or tokens: whole numbers up to it are exact in every language. */
export const maxAmount = Number.MAX_SAFE_INTEGER;

export function checkAmount(name: string, value: number): void {
  if (Number.isSafeInteger(value) && value >= 0) return;
  throw new DrawbridgeError("INVALID_ARGUMENT", `${name} is ${value}; expected a whole number from 0 to ${maxAmount}.`);
}

export function checkId(name: string, value: string): void {
  if (value === "") throw new DrawbridgeError("INVALID_ARGUMENT", `${name} is empty.`);
}

/** What a refused grant says: together with all that was granted before, it is more than an amount can be. */
export function tooMuchGranted(whose: string): DrawbridgeError {
  return new DrawbridgeError("INVALID_ARGUMENT", `${whose} cannot be granted more than ${maxAmount} in all.`);
}

export function checkLeaseRequest(request: LeaseRequest): void {
  checkId("attemptId", request.attemptId);
  checkId("requestId", request.requestId);
  checkId("accountId", request.accountId);
  checkAmount("millicredits", request.millicredits);
}

export function checkAdmitRequest(request: AdmitRequest): void {
  checkId("requestId", request.requestId);
  checkAmount("holdMicros", request.holdMicros);
  checkAmount("tokens", request.tokens);
}

export function checkDemand(schedulerId: string, model: string, waiting: number): void {
  checkId("schedulerId", schedulerId);
  checkId("model", model);
  checkAmount("waiting", waiting);
}

export function checkSettleRequest(request: SettleRequest): void {
  checkAmount("costMicros", request.costMicros);
  checkAmount("millicredits", request.millicredits);
}
