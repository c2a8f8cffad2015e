// JSON that stays one line for readers that know more line breaks than LF.

const otherLineBreaks = /[\u0085\u2028\u2029]/g;

/**
 * The same JSON, with line breaks of Unicode escaped. JSON allows them in texts as they are, but Node's readline, Python's splitlines and what is made
 * of them break a line there, in mid-text.
 */
export function oneLine(json: string): string {
  return json.replace(otherLineBreaks, escaped);
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
