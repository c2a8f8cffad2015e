// Redemption codes, in one slot. A code is first claimed for a user, then its worth is granted in the user's slot, once by the code's id: whoever
// comes between the two is completed by the next call of the same user.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type RedemptionCode, RedemptionCodeSchema } from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import { checkAmount, checkId } from "../checks.ts";
import type { AccessStore, NewCode } from "../state.ts";
import type { Argument } from "./connection.ts";
import type { ObservedContext } from "./context.ts";
import { listById } from "./pages.ts";
import { fields, text, texts } from "./replies.ts";
import { grantQuota, needUser } from "./users.ts";

type CodeStore = Pick<AccessStore, "addCodes" | "listCodes" | "redeemCode">;

export function createCodeStore(context: ObservedContext): CodeStore {
  const { connection, keys } = context;
  const load = async (ids: readonly string[]) => {
    const replies = await connection.together(ids.map((id) => ["HGETALL", keys.code(id)]));
    return replies.map((reply) => codeOf(fields(reply)));
  };
  return {
    async addCodes(codes, now) {
      for (const { id, quotaMicros } of codes) {
        checkId("The code's id", id);
        checkAmount("quotaMicros", quotaMicros);
      }
      for (const code of codes) {
        const codeKeys = [keys.code(code.id), keys.codeHashes, keys.codeIds];
        const added = await connection.script("create-code", codeKeys, [code.id, code.hash, ...fieldsOf(code, now)]);
        if (text(added) === "1") continue;
        throw new DrawbridgeError("ALREADY_EXISTS", `There is a code "${code.id}" already, or this very code.`);
      }
      return (await load(codes.map(({ id }) => id))).filter((code) => code !== undefined);
    },

    listCodes: (afterId, limit) => listById(connection, keys.codeIds, { afterId, limit }, load),

    async redeemCode(hash, userId, now) {
      await needUser(context, userId);
      const id = text(await connection.command("HGET", keys.codeHashes, hash));
      if (id === undefined) return { redeemed: false, refused: "unknown" };
      const [verdict, worth] = texts(await connection.script("claim-code", [keys.code(id)], [userId, now]));
      if (verdict !== "claimed") return { redeemed: false, refused: refusalOf(verdict) };
      const quotaMicros = Number(worth);
      if (!(await grantQuota(context, userId, `code ${id}`, quotaMicros))) return { redeemed: false, refused: "used" };
      return { redeemed: true, user: await needUser(context, userId), quotaMicros };
    },
  };
}

function refusalOf(verdict: string | undefined): "unknown" | "expired" | "used" {
  return verdict === "expired" || verdict === "used" ? verdict : "unknown";
}

function fieldsOf({ id, name, prefix, quotaMicros, expiresAt }: NewCode, now: number): Argument[] {
  const always = ["id", id, "name", name, "prefix", prefix, "micros", quotaMicros, "created_at", now];
  return [...always, ...(expiresAt === undefined ? [] : ["expires_at", expiresAt])];
}

/** undefined: there are no fields, so there is no code. */
function codeOf(stored: ReadonlyMap<string, string>): RedemptionCode | undefined {
  const id = stored.get("id");
  if (id === undefined) return undefined;
  const time = (name: string) => (stored.has(name) ? timestampFromMs(Number(stored.get(name))) : undefined);
  return create(RedemptionCodeSchema, {
    id,
    name: stored.get("name") ?? "",
    prefix: stored.get("prefix") ?? "",
    quotaMicros: BigInt(stored.get("micros") ?? 0),
    expiresAt: time("expires_at"),
    createdAt: time("created_at"),
    redeemedBy: stored.get("redeemed_by") ?? "",
    redeemedAt: time("redeemed_at"),
  });
}
