// What every refusal looks like on the wire.
import { expect } from "vitest";

export interface ApiErrorShape {
  readonly status: number;
  readonly type: string;
  readonly code: string | null;
  /** Default null. */
  readonly param?: string | null;
}

export interface ApiErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | null;
  };
}

/** Checks status, all four keys and the request id; gives the body. */
export async function expectApiError(response: Response, expected: ApiErrorShape): Promise<ApiErrorBody> {
  const text = await response.text();
  expect({ status: response.status, text }).toEqual({ status: expected.status, text });
  const body = JSON.parse(text) as ApiErrorBody;
  expectErrorKeys(body);
  expect(body.error).toMatchObject({ type: expected.type, code: expected.code, param: expected.param ?? null });
  expect(response.headers.get("x-request-id")).toMatch(/^req_/);
  expect(response.headers.get("content-type")).toMatch(/^application\/json/);
  return body;
}

/** Exactly the four keys, and a message that says something and shows nothing of the inside. */
export function expectErrorKeys(body: ApiErrorBody): void {
  expect(Object.keys(body)).toEqual(["error"]);
  expect(Object.keys(body.error).sort()).toEqual(["code", "message", "param", "type"]);
  expect(body.error.message.length).toBeGreaterThan(10);
  expect(body.error.message).not.toMatch(/\bat \S+ \(|node:internal|\/services\//);
}
