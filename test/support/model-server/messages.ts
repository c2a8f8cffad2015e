// Anthropic's Messages API. Its input tokens leave out those from the cache.
import { asResults, type Body, type Dialect, event } from "./dialect.ts";
import { reportedUsage } from "./script.ts";

const { input_tokens, cached_tokens, output_tokens } = reportedUsage;
const usage = { input_tokens: input_tokens - cached_tokens, cache_read_input_tokens: cached_tokens, output_tokens };

export const messagesApi: Dialect = {
  matches: (path) => path.endsWith("/messages"),
  streams: (_path, body) => body["stream"] === true,
  lastUserText: (body) => JSON.stringify(usersOf(body).findLast((content) => resultsIn(content).length === 0) ?? ""),
  toolResults: (body) => asResults(resultsIn(usersOf(body).at(-1)).map((block) => block["content"])),
  answer(body) {
    const send = (type: string, fields: object = {}) => event({ type, ...fields }, type);
    const message = { id: "msg_local", type: "message", role: "assistant", model: body["model"] };
    return {
      begin: () =>
        send("message_start", {
          message: { ...message, content: [], stop_reason: null, usage: { ...usage, output_tokens: 1 } },
        }) + send("content_block_start", { index: 0, content_block: { type: "text", text: "" } }),
      piece: (text) => send("content_block_delta", { index: 0, delta: { type: "text_delta", text } }),
      end: () =>
        send("content_block_stop", { index: 0 }) +
        send("message_delta", { delta: { stop_reason: "end_turn", stop_sequence: null }, usage: { output_tokens } }) +
        send("message_stop"),
      calls: (calls) =>
        send("message_start", {
          message: { ...message, content: [], stop_reason: null, usage: { ...usage, output_tokens: 1 } },
        }) +
        calls
          .map(
            ({ id, name, input }, index) =>
              send("content_block_start", { index, content_block: { type: "tool_use", id, name, input: {} } }) +
              send("content_block_delta", {
                index,
                delta: { type: "input_json_delta", partial_json: JSON.stringify(input) },
              }) +
              send("content_block_stop", { index }),
          )
          .join("") +
        send("message_delta", { delta: { stop_reason: "tool_use", stop_sequence: null }, usage: { output_tokens } }) +
        send("message_stop"),
      whole: (text) => ({ ...message, content: [{ type: "text", text }], stop_reason: "end_turn", usage }),
    };
  },
};

/** The contents of the user's messages; results of tools come in such messages too. */
function usersOf(body: Body): unknown[] {
  const messages = Array.isArray(body["messages"]) ? (body["messages"] as Body[]) : [];
  return messages.filter((message) => message["role"] === "user").map((message) => message["content"]);
}

function resultsIn(content: unknown): Body[] {
  return Array.isArray(content) ? (content as Body[]).filter((block) => block["type"] === "tool_result") : [];
}
