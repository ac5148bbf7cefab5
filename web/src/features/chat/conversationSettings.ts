/** What a conversation's turns are asked with: kept by the server with it, and by the page until there is one. */

import { type QueryClient, skipToken, useQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback, useState } from "react";
import { t } from "../../app/i18n";
import { type ConversationSettings, setConversationSettings } from "../../protocol/chat";
import { getConversation } from "../../protocol/client";
import type { ActivityEvent, Conversation } from "../../protocol/wire";
import { marked } from "../../stream/activity";
import { showToast } from "../../ui/Toast";

export interface ConversationSettingsHeld {
  /** Settings that haven't been read can't be changed: what is set replaces all that was. */
  isReady: boolean;
  settings: ConversationSettings;
  change: (settings: ConversationSettings) => void;
  isTemporary: boolean;
}

const keyOf = (conversationId: string | null) => ["conversation", conversationId] as const;
const NONE: ConversationSettings = {};

export function settingsKnown(client: QueryClient, conversationId: string): ConversationSettings | undefined {
  return client.getQueryData<Conversation>(keyOf(conversationId))?.settings;
}

/** What the page has just learnt of it. */
export const keepConversation = (client: QueryClient, conversation: Conversation): unknown =>
  client.setQueryData<Conversation>(keyOf(conversation.id), conversation);

/** Takes in what has happened to it elsewhere. */
export const applyToConversation = (client: QueryClient, event: ActivityEvent): unknown =>
  client.setQueryData<Conversation>(keyOf(event.conversation_id), (one) => one && marked(one, event));

/** A conversation by itself, as one that is in no list that was read. */
export const useConversation = (conversationId: string | null) =>
  useQuery({
    queryKey: keyOf(conversationId),
    queryFn: conversationId === null ? skipToken : ({ signal }) => getConversation(conversationId, signal),
    staleTime: 60_000,
  });

export function useConversationSettings(conversationId: string | null): ConversationSettingsHeld {
  const client = useQueryClient();
  const [begun, setBegun] = useState(NONE);
  const { data } = useConversation(conversationId);
  const change = useCallback(
    (settings: ConversationSettings) => {
      if (conversationId === null) return setBegun(settings);
      client.setQueryData<Conversation>(keyOf(conversationId), (one) => one && { ...one, settings });
      setConversationSettings(conversationId, settings).then(
        (kept) => keepConversation(client, kept),
        // It wasn't kept: what the server has is shown again.
        (error: Error) => {
          showToast({ text: t("app:failed", { reason: error.message }) });
          void client.invalidateQueries({ queryKey: keyOf(conversationId) });
        },
      );
    },
    [client, conversationId],
  );
  if (conversationId === null) return { isReady: true, settings: begun, change, isTemporary: false };
  return { isReady: data !== undefined, settings: data?.settings ?? NONE, change, isTemporary: data?.temporary ?? false };
}
