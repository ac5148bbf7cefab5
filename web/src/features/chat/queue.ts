/**
 * Messages that were written while an answer was: kept with the drafts, over reloads, and sent one after the other when
 * an answer has ended well. After any other end they wait for the person. A message goes with the request id that it
 * got when it was written, so that two tabs that both send it send it once; it stays first until the server has it.
 */

import { useSyncExternalStore } from "react";
import { read, write } from "../../app/storage";
import { newRequestId } from "../../protocol/client";

export interface Queued {
  requestId: string;
  text: string;
}

export const QUEUES = "triplane.queue.";
const NOTHING: readonly Queued[] = [];
/** Nobody writes this many ahead. */
const LONGEST = 20;

const listeners = new Set<() => void>();
const parsed = new Map<string, { stored: string; queue: readonly Queued[] }>();

export function readQueue(conversationId: string): readonly Queued[] {
  const stored = read(QUEUES + conversationId);
  if (stored === null) return NOTHING;
  const known = parsed.get(conversationId);
  if (known?.stored === stored) return known.queue;
  const queue = parse(stored);
  parsed.set(conversationId, { stored, queue });
  return queue;
}

function parse(stored: string): readonly Queued[] {
  try {
    const queue: unknown = JSON.parse(stored);
    return Array.isArray(queue) ? queue.filter((one): one is Queued => typeof one?.text === "string" && typeof one.requestId === "string") : NOTHING;
  } catch {
    return NOTHING;
  }
}

function keep(conversationId: string, queue: readonly Queued[]): boolean {
  const isKept = write(QUEUES + conversationId, queue.length === 0 ? null : JSON.stringify(queue));
  for (const listener of listeners) listener();
  return isKept;
}

/** False where it can't be kept: too many wait, or there is no storage. */
export function enqueue(conversationId: string, text: string): boolean {
  const queue = readQueue(conversationId);
  if (queue.length >= LONGEST) return false;
  return keep(conversationId, [...queue, { requestId: newRequestId(), text }]);
}

export const isQueued = (conversationId: string, requestId: string): boolean =>
  readQueue(conversationId).some((one) => one.requestId === requestId);

export function unqueue(conversationId: string, requestId: string): void {
  if (isQueued(conversationId, requestId)) keep(conversationId, readQueue(conversationId).filter((one) => one.requestId !== requestId));
}

interface Sending {
  /** Reads the conversation anew: whether the next one may follow what stands there now. */
  mayFollow: (conversationId: string) => Promise<boolean>;
  send: (queued: Queued) => void;
}

/**
 * Sends the first one. Another tab may be doing the same: a message leaves the queue only when the server has it, so
 * whoever reads the first one, then the conversation, and finds it still first, sends no other one past it.
 */
export async function sendFirst(conversationId: string, { mayFollow, send }: Sending): Promise<void> {
  for (let [first] = readQueue(conversationId); first; ) {
    if (!(await mayFollow(conversationId))) return;
    const [now] = readQueue(conversationId);
    if (now?.requestId === first.requestId) return send(now);
    first = now;
  }
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  window.addEventListener("storage", listener); // another tab
  return () => {
    listeners.delete(listener);
    window.removeEventListener("storage", listener);
  };
}

export const useQueue = (conversationId: string | null): readonly Queued[] =>
  useSyncExternalStore(subscribe, () => (conversationId === null ? NOTHING : readQueue(conversationId)));
