// Reading a streamed answer as bytes, without an SDK.

/** The events of a stream as they arrive, each with its line breaks: what stands before every blank line. */
export async function* rawEvents(response: Response): AsyncGenerator<string, void, undefined> {
  let rest = "";
  for await (const part of textOf(response)) {
    rest += part;
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      yield rest.slice(0, end + 2);
      rest = rest.slice(end + 2);
    }
  }
  if (rest !== "") yield rest;
}

async function* textOf(response: Response): AsyncGenerator<string, void, undefined> {
  if (!response.body) return;
  const decoder = new TextDecoder("utf-8", { fatal: true });
  for await (const bytes of response.body) yield decoder.decode(bytes as Uint8Array, { stream: true });
}

/** All events, comments left out. */
export async function allEvents(response: Response): Promise<string[]> {
  const events: string[] = [];
  for await (const event of rawEvents(response)) if (!event.startsWith(":")) events.push(event);
  return events;
}

/** The JSON of a `data:` event. */
export function dataOf<T>(event: string): T {
  return JSON.parse(event.replace(/^data: /, "")) as T;
}

/** Everything that an iterable gives. */
export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}
