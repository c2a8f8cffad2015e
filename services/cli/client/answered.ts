// Messages that the contract always sends.
import { DrawbridgeError } from "../../kit/errors.ts";

export function answered<T>(message: T | undefined): T {
  if (message !== undefined) return message;
  throw new DrawbridgeError("INTERNAL", "The answer is empty: the system is not of this version.");
}
