/** The list of conversations: reading it page by page, renaming, deleting, and keeping the cache in step. */

import { type InfiniteData, type QueryClient, useInfiniteQuery, useMutation, useQueryClient } from "@tanstack/react-query";
import { deleteConversation, listConversations, renameConversation } from "../../protocol/client";
import type { Conversation, Page } from "../../protocol/wire";

const KEY = ["conversations"] as const;
type Pages = InfiniteData<Page<Conversation>, string | null>;

export function useConversations() {
  return useInfiniteQuery({
    queryKey: KEY,
    queryFn: ({ pageParam, signal }) => listConversations(pageParam, signal),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => (page.has_more ? (page.data.at(-1)?.id ?? null) : null),
    select: (pages) => uniqueById(pages.pages.flatMap((page) => page.data)),
  });
}

/** Activity moves a conversation to the front, so it may be on two pages that were read at different moments. */
function uniqueById(conversations: Conversation[]): Conversation[] {
  return [...new Map(conversations.toReversed().map((one) => [one.id, one])).values()].toReversed();
}

export function rememberNewConversation(client: QueryClient, conversation: Conversation): void {
  client.setQueryData<Pages>(KEY, (pages) => {
    const [first, ...rest] = pages?.pages ?? [];
    if (!pages || !first) return pages;
    return { ...pages, pages: [{ ...first, data: [conversation, ...first.data] }, ...rest] };
  });
}

function changeConversations(client: QueryClient, change: (conversation: Conversation) => Conversation | null): void {
  client.setQueryData<Pages>(KEY, (pages) => {
    if (!pages) return pages;
    const changed = pages.pages.map((page) => ({ ...page, data: page.data.map(change).filter((one) => one !== null) }));
    return { ...pages, pages: changed };
  });
}

export const refreshConversations = (client: QueryClient) => client.invalidateQueries({ queryKey: KEY });

const TITLE_LOOKS_MS = [1500, 4000, 9000, 20_000];

/** A title is written after the first answer; we look for it a few times. */
export async function awaitTitle(client: QueryClient, conversationId: string): Promise<void> {
  for (const delay of TITLE_LOOKS_MS) {
    await refreshConversations(client);
    const found = findConversation(client, conversationId);
    if (!found || found.title !== null) return;
    await new Promise((resolve) => setTimeout(resolve, delay));
  }
  await refreshConversations(client);
}

export function findConversation(client: QueryClient, id: string): Conversation | undefined {
  return client.getQueryData<Pages>(KEY)?.pages.flatMap((page) => page.data).find((one) => one.id === id);
}

export function useRename() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ id, title }: { id: string; title: string }) => renameConversation(id, title),
    onMutate: ({ id, title }) => changeConversations(client, (one) => (one.id === id ? { ...one, title } : one)),
    onSettled: () => refreshConversations(client),
  });
}

export function useDelete() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (id: string) => deleteConversation(id),
    onSuccess: (_, id) => {
      changeConversations(client, (one) => (one.id === id ? null : one));
      // By then the page shows something else; before, it would ask for the messages again.
      void refreshConversations(client).finally(() => client.removeQueries({ queryKey: ["messages", id] }));
    },
  });
}
