/** A conversation's messages as the tree they are, and the one path through it that is shown. Pure. */

import type { ActivityEvent, Message } from "../../protocol/wire";

export interface Thread {
  /** Of all branches, by `seq`: the newest ones, as far back as they have been read. */
  messages: readonly Message[];
  /** Whether there are messages before the first of these. */
  hasOlder: boolean;
  /** The end of the path that is shown; null shows nothing. */
  leafId: string | null;
  /** The `seq` from which on the store may say something else by now; null: nothing has been heard of that. */
  doubtedFrom: number | null;
}

export interface Placed {
  message: Message;
  /** The messages that follow the same one, this one among them, oldest first. */
  siblings: readonly string[];
}

export const emptyThread: Thread = { messages: [], hasOlder: false, leafId: null, doubtedFrom: null };

/** What tools said, and a system's words, are not shown as messages. */
const isShown = (message: Message): boolean => message.role === "user" || message.role === "assistant";

export function shownPath({ messages, leafId }: Pick<Thread, "messages" | "leafId">): Placed[] {
  const byId = new Map(messages.map((message) => [message.id, message]));
  const byParent = new Map<string | null, string[]>();
  for (const { id, parent_id } of messages.filter(isShown)) {
    byParent.set(parent_id, [...(byParent.get(parent_id) ?? []), id]);
  }
  const path: Placed[] = [];
  for (let at = leafId === null ? undefined : byId.get(leafId); at; at = byId.get(at.parent_id ?? "")) {
    if (!isShown(at)) continue;
    path.push({ message: at, siblings: byParent.get(at.parent_id) ?? [] });
  }
  return path.reverse();
}

/** The part of a path up to a message; of one that isn't on it, all. */
export function pathUpTo(path: readonly Placed[], id: string | null): readonly Placed[] {
  if (id === null) return [];
  const at = path.findIndex(({ message }) => message.id === id);
  return at < 0 ? path : path.slice(0, at + 1);
}

/** The newest leaf below a message: what choosing its branch shows. */
export function newestLeafBelow(messages: readonly Message[], id: string): string {
  const below = new Set([id]);
  let leaf = id;
  for (const message of messages) {
    if (message.parent_id === null || !below.has(message.parent_id)) continue;
    below.add(message.id);
    leaf = message.id;
  }
  return leaf;
}

/** The same thread, not to be trusted from the first message of this turn on. */
export function doubtTurn(thread: Thread, turnId: string): Thread {
  const first = thread.messages.find((message) => message.turn_id === turnId);
  if (!first) return thread; // it will be read as new
  return { ...thread, doubtedFrom: Math.min(first.seq, thread.doubtedFrom ?? first.seq) };
}

/** What needn't be read again: everything before the first message that grows or is doubted. */
export function settledPart({ messages, doubtedFrom }: Thread): readonly Message[] {
  const changing = messages.findIndex(
    ({ status, seq }) => status === "streaming" || (doubtedFrom !== null && seq >= doubtedFrom),
  );
  return changing < 0 ? messages : messages.slice(0, changing);
}

/** Whether the thread has already what this event tells. */
export function isKnown({ messages }: Thread, { type, turn_id, status }: ActivityEvent): boolean {
  if (type === "conversation.created") return true;
  const answer = messages.find((message) => message.turn_id === turn_id && message.role === "assistant");
  return answer !== undefined && answer.status === (type === "turn.started" ? "streaming" : status);
}
