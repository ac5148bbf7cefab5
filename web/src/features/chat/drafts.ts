/** Text that was typed and not sent yet, kept per conversation across reloads. */

import { read, write } from "../../app/storage";

const key = (conversationId: string | null): string => `triplane.draft.${conversationId ?? "new"}`;

export const readDraft = (conversationId: string | null): string => read(key(conversationId)) ?? "";

export const writeDraft = (conversationId: string | null, text: string): void =>
  write(key(conversationId), text === "" ? null : text);
