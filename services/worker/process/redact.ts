// Secrets stay out of messages and logs: what an agent prints may quote its own credentials.

const patterns = [
  /\b(?:ksk|sk|pk|ghp|gho|xox[abp])[-_][A-Za-z0-9_-]{8,}/g,
  /\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?/g,
  /\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}/gi,
  /\b(api[-_]?key|token|secret|password)(["']?\s*[:=]\s*["']?)[^\s"',;]{4,}/gi,
];

/** Shorter values are words such as "true" that occur everywhere. */
const secretCharsMin = 6;

/** Replaces the given values, and what looks like a credential. */
export function redact(text: string, secrets: readonly string[]): string {
  let clean = text;
  for (const secret of secrets) {
    if (secret.length >= secretCharsMin) clean = clean.replaceAll(secret, "[redacted]");
  }
  for (const pattern of patterns) clean = clean.replace(pattern, "[redacted]");
  return clean;
}
