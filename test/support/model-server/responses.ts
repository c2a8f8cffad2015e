// OpenAI's Responses API.
import { type Dialect, event, lastContent } from "./dialect.ts";
import { reportedUsage } from "./script.ts";

const id = "resp_local";
const itemId = "msg_local";
const place = { item_id: itemId, output_index: 0, content_index: 0 };

export const responsesApi: Dialect = {
  matches: (path) => path.endsWith("/responses"),
  streams: (_path, body) => body["stream"] !== false,
  lastUserText: (body) => lastContent(body["input"], "user", "content"),
  answer() {
    let sequence = 0;
    const send = (type: string, fields: object) => event({ type, sequence_number: sequence++, ...fields }, type);
    const completed = (text: string) => ({
      id,
      object: "response",
      status: "completed",
      output: [message("completed", text)],
      usage: usage(),
    });
    return {
      begin: () =>
        send("response.created", { response: { id, object: "response", status: "in_progress", output: [] } }) +
        send("response.output_item.added", { output_index: 0, item: message("in_progress", undefined) }),
      piece: (text) => send("response.output_text.delta", { ...place, delta: text }),
      end: (text) =>
        send("response.output_text.done", { ...place, text }) +
        send("response.output_item.done", { output_index: 0, item: message("completed", text) }) +
        send("response.completed", { response: completed(text) }),
      whole: completed,
    };
  },
};

function message(status: string, text: string | undefined) {
  const content = text === undefined ? [] : [{ type: "output_text", text, annotations: [] }];
  return { type: "message", id: itemId, role: "assistant", status, content };
}

function usage() {
  const { input_tokens, cached_tokens, output_tokens, reasoning_tokens } = reportedUsage;
  return {
    input_tokens,
    input_tokens_details: { cached_tokens },
    output_tokens,
    output_tokens_details: { reasoning_tokens },
    total_tokens: input_tokens + output_tokens,
  };
}
