/** The list of conversations: reading it page by page, renaming, deleting, and keeping the cache in step. */

import { type InfiniteData, type QueryClient, useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { deleteConversation, listConversations, listRunningTurns, renameConversation } from "../../protocol/client";
import type { ActivityEvent, Conversation, Page } from "../../protocol/wire";
import { applyToList, applyToRunning, type RunningTurn } from "../../stream/activity";

const KEY = ["conversations"] as const;
const RUNNING = ["running turns"] as const;
type Pages = InfiniteData<Page<Conversation>, string | null>;

export function useConversations() {
  return useInfiniteQuery({
    queryKey: KEY,
    queryFn: ({ pageParam, signal }) => listConversations(pageParam, signal),
    initialPageParam: null as string | null,
    // A page may have been emptied meanwhile.
    getNextPageParam: (page, all) => (page.has_more ? (all.flatMap(({ data }) => data).at(-1)?.id ?? null) : null),
    select: (pages) => uniqueById(pages.pages.flatMap((page) => page.data)),
  });
}

/** Activity moves a conversation to the front, so it may be on two pages that were read at different moments. */
function uniqueById(conversations: Conversation[]): Conversation[] {
  const seen = new Set<string>();
  return conversations.filter(({ id }) => !seen.has(id) && seen.add(id));
}

/** Takes in what has happened, here or elsewhere. */
export function applyToConversations(client: QueryClient, event: ActivityEvent): void {
  client.setQueryData<Pages>(KEY, (pages) => {
    if (!pages) return pages;
    const changed = applyToList(pages.pages.map(({ data }) => data), event, Date.now() / 1000);
    return { ...pages, pages: pages.pages.map((page, index) => ({ ...page, data: [...(changed[index] ?? [])] })) };
  });
  refetchIfFetching(client, KEY);
}

/** The ids of the conversations in which an answer is being written, on whichever device. */
export function useRunning(): ReadonlySet<string> {
  const { data } = useQuery({ queryKey: RUNNING, queryFn: ({ signal }) => readRunning(signal), select: conversationsOf });
  return data ?? NONE;
}

const NONE: ReadonlySet<string> = new Set();
const conversationsOf = (running: readonly RunningTurn[]): ReadonlySet<string> =>
  new Set(running.map(({ conversation_id }) => conversation_id));

async function readRunning(signal: AbortSignal): Promise<readonly RunningTurn[]> {
  const { data } = await listRunningTurns(signal);
  return data.map(({ id, conversation_id }) => ({ id, conversation_id }));
}

export function applyToRunningTurns(client: QueryClient, event: ActivityEvent): void {
  client.setQueryData<readonly RunningTurn[]>(RUNNING, (running) => running && applyToRunning(running, event));
  refetchIfFetching(client, RUNNING);
}

/** What is on its way may have been read before the change that was just taken in. */
function refetchIfFetching(client: QueryClient, queryKey: readonly string[]): void {
  if (client.isFetching({ queryKey }) > 0) void client.invalidateQueries({ queryKey });
}

function changeConversations(client: QueryClient, change: (conversation: Conversation) => Conversation | null): void {
  client.setQueryData<Pages>(KEY, (pages) => {
    if (!pages) return pages;
    const changed = pages.pages.map((page) => ({ ...page, data: page.data.map(change).filter((one) => one !== null) }));
    return { ...pages, pages: changed };
  });
}

export const refreshConversations = (client: QueryClient) => client.invalidateQueries({ queryKey: KEY });

export const refreshRunningTurns = (client: QueryClient) => client.invalidateQueries({ queryKey: RUNNING });

export function useRename() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ id, title }: { id: string; title: string }) => renameConversation(id, title),
    onMutate: ({ id, title }) => changeConversations(client, (one) => (one.id === id ? { ...one, title } : one)),
    onSettled: () => refreshConversations(client),
  });
}

const DELETION = ["delete"] as const;

/** Whether this page is deleting this conversation, and so will see to what it shows by itself. */
export const isBeingDeleted = (client: QueryClient, conversationId: string): boolean =>
  client.isMutating({ mutationKey: DELETION, predicate: ({ state }) => state.variables === conversationId }) > 0;

export function useDelete() {
  const client = useQueryClient();
  return useMutation({
    mutationKey: DELETION,
    mutationFn: (id: string) => deleteConversation(id),
    onSuccess: (_, id) => {
      changeConversations(client, (one) => (one.id === id ? null : one));
      // By then the page shows something else; before, it would ask for the messages again.
      void refreshConversations(client).finally(() => client.removeQueries({ queryKey: ["messages", id] }));
    },
  });
}
