/** Text that was typed and not sent yet, kept per conversation across reloads. */

import { read, write } from "../../app/storage";

export const DRAFTS = "triplane.draft.";
const key = (conversationId: string | null): string => DRAFTS + (conversationId ?? "new");

export const readDraft = (conversationId: string | null): string => read(key(conversationId)) ?? "";

export const writeDraft = (conversationId: string | null, text: string): boolean => write(key(conversationId), text === "" ? null : text);

/** What was given before what is typed, with an empty line between. */
export const joined = (given: string, typed: string): string => (typed.trim() === "" ? given : `${given}\n\n${typed}`);

/** Keeps a message that wasn't taken in, beside what has been typed since. */
export function returnToDraft(conversationId: string | null, text: string): void {
  dropFromDraft(conversationId, text);
  writeDraft(conversationId, joined(text, readDraft(conversationId)));
}

/** The message is on its way again, or has arrived after all. */
export function dropFromDraft(conversationId: string | null, text: string): void {
  const draft = readDraft(conversationId);
  if (draft === text) writeDraft(conversationId, "");
  else if (draft.startsWith(`${text}\n\n`)) writeDraft(conversationId, draft.slice(text.length + 2));
}
