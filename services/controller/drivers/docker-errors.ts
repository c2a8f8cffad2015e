// What the Engine answers when it refuses.

/** Swallows the Engine's answers of these statuses: what was asked for is so already. */
export function unless(...statuses: readonly number[]): (error: unknown) => void {
  return (error) => {
    if (!statuses.includes((error as { statusCode?: number }).statusCode ?? 0)) throw error;
  };
}

/** Why, in the Engine's words. */
export function engineMessage(error: unknown): string {
  return (error as { json?: { message?: string } }).json?.message ?? String(error);
}
