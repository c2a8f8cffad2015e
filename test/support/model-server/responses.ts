// OpenAI's Responses API.
import { after, asResults, type Body, type Dialect, event, lastContent } from "./dialect.ts";
import { reportedUsage } from "./script.ts";

const id = "resp_local";
const itemId = "msg_local";
const place = { item_id: itemId, output_index: 0, content_index: 0 };

export const responsesApi: Dialect = {
  matches: (path) => path.endsWith("/responses"),
  streams: (_path, body) => body["stream"] !== false,
  lastUserText: (body) => lastContent(body["input"], "user", "content"),
  toolResults: (body) => asResults(after(body["input"], isUser, isResult).map((item) => item["output"])),
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
      search(query) {
        const item = {
          type: "tool_search_call",
          id: "ts_local",
          call_id: "search_local",
          execution: "client",
          status: "completed",
          arguments: { query },
        };
        return (
          send("response.created", { response: { id, object: "response", status: "in_progress", output: [] } }) +
          send("response.output_item.done", { output_index: 0, item }) +
          send("response.completed", { response: { ...completed(""), output: [item] } })
        );
      },
      calls(calls) {
        const items = calls.map(({ id: callId, name, namespace, input }) => ({
          type: "function_call",
          id: `fc_${callId}`,
          call_id: callId,
          name,
          ...(namespace === undefined ? {} : { namespace }),
          arguments: JSON.stringify(input),
          status: "completed",
        }));
        return (
          send("response.created", { response: { id, object: "response", status: "in_progress", output: [] } }) +
          items
            .map(
              (item, output_index) =>
                send("response.output_item.added", { output_index, item: { ...item, arguments: "" } }) +
                send("response.function_call_arguments.delta", {
                  item_id: item.id,
                  output_index,
                  delta: item.arguments,
                }) +
                send("response.output_item.done", { output_index, item }),
            )
            .join("") +
          send("response.completed", { response: { ...completed(""), output: items } })
        );
      },
      whole: completed,
    };
  },
};

const isUser = (item: Body) => item["role"] === "user";
const isResult = (item: Body) => item["type"] === "function_call_output";

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
