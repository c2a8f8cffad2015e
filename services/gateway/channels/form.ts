// Forms with files, as transcriptions and image edits are asked for. One is held whole, within the route's limit, as JSON bodies are: its model may
// stand behind its file, and another channel may have to be asked with all of it again.
import { createHash } from "node:crypto";
import { errorCodes, type FastifyInstance, type FastifyRequest } from "fastify";
import { FormData, Response } from "undici";
import { ParameterError } from "../openai/parse.ts";
import { formRoutes } from "./spec.ts";
import type { JsonObject } from "./upstream/json.ts";

/** The most fields and files of a form. */
const partsMax = 256;

/** A form, and what it says as an object: its texts, and what is known of its files. */
export class FormBody {
  readonly fields: JsonObject;
  readonly data: FormData;

  constructor(fields: JsonObject, data: FormData) {
    this.fields = fields;
    this.data = data;
  }

  /** What a repeated Idempotency-Key is compared by. */
  toJSON(): JsonObject {
    return this.fields;
  }
}

/** Lets the routes that take forms take them; on the others they stay a wrong type. */
export function takeForms(app: FastifyInstance): void {
  const paths = new Set([...formRoutes].map((route) => `/v1/${route}`));
  app.addContentTypeParser(
    "multipart/form-data",
    { parseAs: "buffer" },
    async (request: FastifyRequest, bytes: Buffer) => {
      const type = request.headers["content-type"] ?? "";
      if (!paths.has(request.routeOptions.url ?? "")) throw new errorCodes.FST_ERR_CTP_INVALID_MEDIA_TYPE(type);
      return await parseForm(bytes, type);
    },
  );
}

/** Throws a ParameterError. */
export async function parseForm(bytes: Buffer, type: string): Promise<FormBody> {
  checkParts(bytes, type);
  const data = await new Response(bytes as Buffer<ArrayBuffer>, { headers: { "content-type": type } })
    .formData()
    .catch(() => {
      throw new ParameterError("We could not parse the form of your request: expected multipart/form-data.");
    });
  const fields = new Map<string, unknown>();
  for (const [name, value] of data) {
    const said = typeof value === "string" ? textOf(name, value) : await fileNote(value);
    const before = fields.get(name);
    fields.set(name, before === undefined ? said : [...(Array.isArray(before) ? before : [before]), said]);
  }
  return new FormBody(Object.fromEntries(fields), data);
}

/** Before it is taken apart: a form of tiny parts would take far more memory than its bytes. */
function checkParts(bytes: Buffer, type: string): void {
  const [, quoted, plain] = /boundary=(?:"([^"]+)"|([^;\s]+))/i.exec(type) ?? [];
  const boundary = quoted ?? plain;
  if (boundary === undefined) throw new ParameterError("The content-type multipart/form-data needs a boundary.");
  let at = bytes.indexOf(`--${boundary}`);
  // The last one ends the form.
  for (let found = 0; found <= partsMax; found += 1) {
    if (at === -1) return;
    at = bytes.indexOf(`--${boundary}`, at + 1);
  }
  throw new ParameterError(`The form has more than ${partsMax} parts.`);
}

/** A form has texts only; what is looked at as a number or a choice is made one. */
function textOf(name: string, text: string): unknown {
  if (name === "n" && /^\d{1,9}$/.test(text)) return Number(text);
  if (name === "stream" && /^(?:true|false)$/i.test(text)) return text.toLowerCase() === "true";
  return text;
}

async function fileNote(file: Pick<File, "name" | "size" | "arrayBuffer">): Promise<JsonObject> {
  const sha256 = createHash("sha256")
    .update(new Uint8Array(await file.arrayBuffer()))
    .digest("hex");
  return { filename: file.name, bytes: file.size, sha256 };
}

/** The same form with the upstream's own name of the model. */
export function formFor(form: FormData, model: string): FormData {
  const sent = new FormData();
  for (const [name, value] of form) {
    if (name === "model") sent.append(name, model);
    else if (typeof value === "string") sent.append(name, value);
    else sent.append(name, value, value.name);
  }
  return sent;
}
