/**
 * Messages that were written while an answer was: kept with the drafts, over reloads, and sent one after the other when
 * an answer has ended well. After any other end they wait for the person. A message goes with the request id that it
 * got when it was written, so that two tabs that both send it send it once.
 */

import { useSyncExternalStore } from "react";
import { read, write } from "../../app/storage";
import { newRequestId } from "../../protocol/client";

export interface Queued {
  requestId: string;
  text: string;
}

const PREFIX = "triplane.queue.";
const NOTHING: readonly Queued[] = [];
/** Nobody writes this many ahead. */
const LONGEST = 20;

const listeners = new Set<() => void>();
const parsed = new Map<string, { stored: string; queue: readonly Queued[] }>();

export function readQueue(conversationId: string): readonly Queued[] {
  const stored = read(PREFIX + conversationId);
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

function keep(conversationId: string, queue: readonly Queued[]): void {
  write(PREFIX + conversationId, queue.length === 0 ? null : JSON.stringify(queue));
  for (const listener of listeners) listener();
}

export function enqueue(conversationId: string, text: string): boolean {
  const queue = readQueue(conversationId);
  if (queue.length >= LONGEST) return false;
  keep(conversationId, [...queue, { requestId: newRequestId(), text }]);
  return true;
}

export const unqueue = (conversationId: string, requestId: string): void =>
  keep(conversationId, readQueue(conversationId).filter((one) => one.requestId !== requestId));

/** Takes the first one off; null if none waits. */
export function nextQueued(conversationId: string): Queued | null {
  const [first] = readQueue(conversationId);
  if (first) unqueue(conversationId, first.requestId);
  return first ?? null;
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
