/** The stored messages of a conversation. A refresh reads only what may have changed: from the last settled one on. */

import { type QueryClient, useQuery } from "@tanstack/react-query";
import { listMessages, Problem } from "../../protocol/client";
import type { Message } from "../../protocol/wire";

const keyOf = (conversationId: string) => ["messages", conversationId] as const;

function settledPart(messages: readonly Message[]): Message[] {
  const growing = messages.findIndex((message) => message.status === "streaming");
  return growing < 0 ? [...messages] : messages.slice(0, growing);
}

async function readMessages(client: QueryClient, conversationId: string, signal?: AbortSignal): Promise<Message[]> {
  const settled = settledPart(client.getQueryData<Message[]>(keyOf(conversationId)) ?? []);
  const news = await listMessages(conversationId, settled.at(-1)?.seq ?? 0, signal);
  return [...settled, ...news];
}

export function useMessages(client: QueryClient, conversationId: string, isLive: boolean) {
  return useQuery({
    queryKey: keyOf(conversationId),
    queryFn: ({ signal }) => readMessages(client, conversationId, signal),
    // Followed turns bring their own text; a turn that can't be followed is looked at now and then.
    refetchInterval: (query) => (!isLive && query.state.data?.at(-1)?.status === "streaming" ? 3000 : false),
    enabled: !isLive,
  });
}

export const startEmpty = (client: QueryClient, conversationId: string): unknown =>
  client.setQueryData<Message[]>(keyOf(conversationId), []);

/** Reads the end of a turn back from the store. */
export async function refreshMessages(client: QueryClient, conversationId: string): Promise<void> {
  await client.cancelQueries({ queryKey: keyOf(conversationId) });
  client.setQueryData(keyOf(conversationId), await readMessages(client, conversationId));
}

/** Looks whether the store has more than the page knew, and takes it in. No, if that can't be known now. */
export async function hasNewMessages(client: QueryClient, conversationId: string): Promise<boolean> {
  const known = client.getQueryData<Message[]>(keyOf(conversationId))?.length ?? 0;
  try {
    await refreshMessages(client, conversationId);
  } catch (error) {
    if (error instanceof Problem) return false;
    throw error;
  }
  return (client.getQueryData<Message[]>(keyOf(conversationId))?.length ?? 0) > known;
}

export async function findGrowingTurn(conversationId: string): Promise<string | null> {
  const messages = await listMessages(conversationId, 0);
  return messages.findLast((message) => message.status === "streaming")?.turn_id ?? null;
}
