/** What the events of `GET /v1/events` change in the lists that the page shows. Pure. */

import type { ActivityEvent, Conversation, Turn } from "../protocol/wire";
import type { SseEvent } from "./sse";

/** A turn that goes on, on whichever device it was begun. */
export type RunningTurn = Pick<Turn, "id" | "conversation_id">;

export type Activity = ActivityEvent | { type: "reset" } | { type: "project" };

/** Reads one SSE event; null for anything that isn't ours to understand. */
export function parseActivity({ data }: SseEvent): Activity | null {
  let payload: unknown;
  try {
    payload = JSON.parse(data);
  } catch {
    return null;
  }
  if (typeof payload !== "object" || payload === null || !("type" in payload)) return null;
  if (payload.type === "reset") return { type: "reset" };
  if (String(payload.type).startsWith("project.")) return { type: "project" };
  return "conversation_id" in payload && typeof payload.conversation_id === "string" ? (payload as ActivityEvent) : null;
}

export function applyToRunning(running: readonly RunningTurn[], event: ActivityEvent): readonly RunningTurn[] {
  switch (event.type) {
    case "turn.started":
      // It may be told twice, when another worker takes the turn over.
      if (event.turn_id === undefined || running.some(({ id }) => id === event.turn_id)) return running;
      return [...running, { id: event.turn_id, conversation_id: event.conversation_id }];
    case "turn.ended":
      return running.filter(({ id }) => id !== event.turn_id);
    case "conversation.deleted":
      return running.filter(({ conversation_id }) => conversation_id !== event.conversation_id);
    default:
      return running;
  }
}

type Pages = readonly (readonly Conversation[])[];

/** A list in the pages that it was read in, newest activity first. */
export function applyToList(pages: Pages, event: ActivityEvent, nowS: number, belongs: (conversation: Conversation) => boolean = isNotArchived): Pages {
  const known = pages.flat().find(({ id }) => id === event.conversation_id);
  switch (event.type) {
    case "conversation.created": {
      const created = marked(begun(event, nowS), event);
      return known || !belongs(created) ? pages : toFront(pages, created, nowS);
    }
    case "conversation.updated": {
      if (!known) return pages;
      const changed = marked(known, event);
      return belongs(changed) ? pages.map((page) => page.map((one) => (one.id === known.id ? changed : one))) : without(pages, known.id);
    }
    case "conversation.deleted":
      return known ? without(pages, known.id) : pages;
    case "turn.started":
      // The title it was accepted with; a later one may be known.
      return known ? toFront(pages, { ...known, title: known.title ?? event.title ?? null }, nowS) : pages;
    case "turn.ended":
      return known ? toFront(pages, known, nowS) : pages;
    default:
      return pages; // of a newer server
  }
}

/** Whether the list may lack a conversation that the event tells of: then it must be read to know. */
export function mustBeRead(pages: Pages, event: ActivityEvent, belongs: (conversation: Conversation) => boolean = isNotArchived): boolean {
  if (pages.flat().some(({ id }) => id === event.conversation_id)) return false;
  // It may be temporary or archived, or stand on a page further down.
  if (event.type === "turn.started") return true;
  if (event.type === "conversation.created") return belongs(marked(begun(event, 0), event)); // on another device
  // Only what was pinned, moved or archived comes with how it stands now.
  if (event.type !== "conversation.updated") return false;
  return event.archived !== undefined && belongs(marked(begun(event, 0), event));
}

const isNotArchived = ({ archived }: Conversation): boolean => archived !== true;

/** The conversation with what the event says of it. */
export function marked(conversation: Conversation, { title, pinned, archived, project_id }: ActivityEvent): Conversation {
  return {
    ...conversation,
    ...(title !== undefined && { title }),
    ...(pinned !== undefined && { pinned }),
    ...(archived !== undefined && { archived }),
    ...(project_id !== undefined && { project_id }),
  };
}

/** What can be shown of a conversation that the list hasn't been read with. */
const begun = ({ conversation_id, title }: ActivityEvent, nowS: number): Conversation => ({
  id: conversation_id,
  object: "conversation",
  title: title ?? null,
  created_at: nowS,
  updated_at: nowS,
  active_leaf: null,
  metadata: {},
});

function toFront(pages: Pages, conversation: Conversation, nowS: number): Pages {
  const [first = [], ...rest] = without(pages, conversation.id);
  // This device's clock may be behind the server's.
  const updated_at = Math.max(nowS, conversation.updated_at, first[0]?.updated_at ?? 0);
  return [[{ ...conversation, updated_at }, ...first], ...rest];
}

const without = (pages: Pages, id: string): Pages => pages.map((page) => page.filter((one) => one.id !== id));
