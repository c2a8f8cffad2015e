// Names of the contract's enum values, as scripts read them.

/** FAILED_AFTER_CONTENT → failed_after_content. A value that this version does not know is its number. */
export function nameOf(names: Readonly<Record<string, number>>, value: number): string {
  const found = Object.keys(names).find((name) => names[name] === value);
  return found?.toLowerCase() ?? String(value);
}
