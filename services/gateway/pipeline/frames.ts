// Server-sent events as text.

/** An event with a name; it says its type in the data too. */
export function namedFrame(event: string, data: object): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
