// Redemption codes.
import type { ServiceImpl } from "@connectrpc/connect";
import type { AccessService } from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../../kit/errors.ts";
import { newId } from "../../../kit/random.ts";
import type { RedeemResult } from "../../../state/state.ts";
import { hashCode, makeCode } from "../keys.ts";
import { type AccessHandlerOptions, future, nextToken, pageSizeDefault } from "./common.ts";
import { userNow } from "./users.ts";

export function codeHandlers({ state: { access }, clock, pepper }: AccessHandlerOptions) {
  return {
    async createCodes({ count, quotaMicros, expiresAt, name }) {
      const now = clock.now();
      const ends = future(expiresAt, now);
      const made = Array.from({ length: count }, () => ({ id: newId("code"), ...makeCode() }));
      const records = await access.addCodes(
        made.map(({ id, secret, prefix }) => ({
          id,
          name,
          prefix,
          hash: hashCode(secret, pepper),
          quotaMicros: Number(quotaMicros),
          expiresAt: ends,
        })),
        now,
      );
      return {
        codes: made.flatMap(({ secret }, index) => {
          const record = records[index];
          return record ? [{ record, code: secret }] : [];
        }),
      };
    },

    async listCodes(request) {
      const size = request.pageSize || pageSizeDefault;
      const codes = await access.listCodes(request.pageToken, size + 1);
      return { codes: codes.slice(0, size), nextPageToken: nextToken(codes, size) };
    },

    async redeemCode({ code, userId }) {
      const result = await access.redeemCode(hashCode(code, pepper), userId, clock.now());
      if (!result.redeemed) throw redemptionError(result.refused);
      return { user: userNow(result.user, clock.now()), quotaMicros: BigInt(result.quotaMicros) };
    },
  } satisfies Partial<ServiceImpl<typeof AccessService>>;
}

type Refused = Extract<RedeemResult, { redeemed: false }>["refused"];

export function redemptionText(refused: Refused): string {
  switch (refused) {
    case "unknown":
      return "This code is not known. Check how it was typed.";
    case "used":
      return "This code was used before.";
    case "expired":
      return "This code has expired.";
    default:
      return refused satisfies never;
  }
}

function redemptionError(refused: Refused): DrawbridgeError {
  return new DrawbridgeError(refused === "unknown" ? "NOT_FOUND" : "PERMISSION_DENIED", redemptionText(refused));
}
