// Which pool holds a conversation, as workers and outcomes tell. What was told may be old: the pool that is named is asked, not trusted.
import { LRUCache } from "lru-cache";
import type { Candidate } from "./candidate.ts";

export interface Holders {
  /** An answer ended there, and the conversation is kept. */
  told(conversation: string, candidate: Candidate): void;
  /** The worker's own list, which replaces what it said before. */
  listed(candidate: Candidate, conversations: readonly string[]): void;
  find(conversation: string): Candidate | undefined;
}

interface Holding {
  readonly candidate: Candidate;
  /** The worker's last word when it was told: until its next word, it counts though that did not name it. */
  readonly reported: bigint;
}

export function createHolders(max: number): Holders {
  const holdings = new LRUCache<string, Holding>({ max });
  return {
    told: (conversation, candidate) => void holdings.set(conversation, { candidate, reported: candidate.reported }),
    listed(candidate, conversations) {
      candidate.conversations = conversations;
      for (const conversation of conversations) {
        if (holdings.peek(conversation)?.candidate === candidate) continue;
        holdings.set(conversation, { candidate, reported: candidate.reported });
      }
    },
    find(conversation) {
      const holding = holdings.get(conversation);
      if (!holding) return undefined;
      const { candidate, reported } = holding;
      if (candidate.reported <= reported || candidate.conversations.includes(conversation)) return candidate;
      holdings.delete(conversation);
      return undefined;
    },
  };
}
