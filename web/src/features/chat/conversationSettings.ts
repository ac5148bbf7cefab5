/** What a conversation's turns are asked with: kept by the server with it, and by the page until there is one. */

import { type QueryClient, skipToken, useQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback, useState } from "react";
import { type ConversationSettings, setConversationSettings } from "../../protocol/chat";
import { getConversation } from "../../protocol/client";
import type { Conversation } from "../../protocol/wire";

export interface ConversationSettingsHeld {
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

export function useConversationSettings(conversationId: string | null): ConversationSettingsHeld {
  const client = useQueryClient();
  const [begun, setBegun] = useState(NONE);
  const { data } = useQuery({
    queryKey: keyOf(conversationId),
    queryFn: conversationId === null ? skipToken : ({ signal }) => getConversation(conversationId, signal),
    staleTime: 60_000,
  });
  const change = useCallback(
    (settings: ConversationSettings) => {
      if (conversationId === null) return setBegun(settings);
      client.setQueryData<Conversation>(keyOf(conversationId), (one) => one && { ...one, settings });
      setConversationSettings(conversationId, settings).then(
        (kept) => keepConversation(client, kept),
        // It wasn't kept: what the server has is shown again.
        () => void client.invalidateQueries({ queryKey: keyOf(conversationId) }),
      );
    },
    [client, conversationId],
  );
  return { settings: conversationId === null ? begun : (data?.settings ?? NONE), change, isTemporary: data?.temporary ?? false };
}
