/** A conversation's messages as the tree they are, and the one path through it that is shown. Pure. */

import type { Message } from "../../protocol/wire";

export interface Thread {
  /** Of all branches, by `seq`. */
  messages: readonly Message[];
  /** The end of the path that is shown; null shows nothing. */
  leafId: string | null;
}

export interface Placed {
  message: Message;
  /** The messages that follow the same one, this one among them, oldest first. */
  siblings: readonly string[];
}

export const emptyThread: Thread = { messages: [], leafId: null };

/** What tools said, and a system's words, are not shown as messages. */
const isShown = (message: Message): boolean => message.role === "user" || message.role === "assistant";

export function shownPath({ messages, leafId }: Thread): Placed[] {
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

/** What needn't be read again: everything before the first message that grows, or that belongs to this turn. */
export function settledPart(messages: readonly Message[], turnId: string | null): readonly Message[] {
  const changing = messages.findIndex(
    (message) => message.status === "streaming" || (turnId !== null && message.turn_id === turnId),
  );
  return changing < 0 ? messages : messages.slice(0, changing);
}
