/** The list of conversations: reading it page by page, renaming, deleting, and keeping the cache in step. */

import { type InfiniteData, type QueryClient, useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { listRunningTurns, renameConversation } from "../../protocol/client";
import { type BulkAction, changeInBulk, type ListView, listConversations } from "../../protocol/history";
import type { ActivityEvent, Conversation, Page } from "../../protocol/wire";
import { applyToList, applyToRunning, mustBeRead, type RunningTurn } from "../../stream/activity";

const KEY = ["conversations"] as const;
const RUNNING = ["running turns"] as const;
type Pages = InfiniteData<Page<Conversation>, string | null>;

export const EVERYTHING: ListView = { archived: false, projectId: null };
/** They stand above the list, however long ago they were used. */
export const PINNED: ListView = { ...EVERYTHING, pinned: true };
const nameOf = ({ archived, projectId, pinned }: ListView): string => (archived ? "archived" : pinned ? "pinned" : (projectId ?? "all"));
const keyOf = (view: ListView) => [...KEY, nameOf(view)];

/** Whether a conversation stands in the list of this name. */
function belongsIn(list: unknown): (conversation: Conversation) => boolean {
  return ({ archived = false, pinned, project_id }) => {
    if (list === "archived" || archived) return archived && list === "archived";
    return list === "all" || (list === "pinned" ? pinned === true : project_id === list);
  };
}

export function useConversations(view: ListView = EVERYTHING) {
  return useInfiniteQuery({
    queryKey: keyOf(view),
    queryFn: ({ pageParam, signal }) => listConversations(view, pageParam, signal),
    initialPageParam: null as string | null,
    // A page may have been emptied meanwhile.
    getNextPageParam: (page, all) => (page.has_more ? (all.flatMap(({ data }) => data).at(-1)?.id ?? null) : null),
    select: (pages) => uniqueById(pages.pages.flatMap((page) => page.data)),
  });
}

/** Activity moves a conversation to the front, so it may be on two pages that were read at different moments. */
export function uniqueById(conversations: Conversation[]): Conversation[] {
  const seen = new Set<string>();
  return conversations.filter(({ id }) => !seen.has(id) && seen.add(id));
}

/** Takes in what has happened, here or elsewhere. */
export function applyToConversations(client: QueryClient, event: ActivityEvent): void {
  const lists = client.getQueriesData<Pages>({ queryKey: KEY }).map(([key, list]) => ({ key, list, pages: (list?.pages ?? []).map(({ data }) => data) }));
  const isListed = lists.some(({ pages }) => pages.flat().some(({ id }) => id === event.conversation_id));
  for (const { key, list, pages } of lists) {
    if (!list) continue;
    const belongs = belongsIn(key[1]);
    const changed = applyToList(pages, event, Date.now() / 1000, belongs);
    client.setQueryData<Pages>(key, { ...list, pages: list.pages.map((page, index) => ({ ...page, data: [...(changed[index] ?? [])] })) });
    const isElsewhere = isListed && event.type === "turn.started";
    if (!isElsewhere && mustBeRead(pages, event, belongs)) void client.invalidateQueries({ queryKey: key });
  }
  refetchIfFetching(client, KEY);
}

/** The title as the list has it. */
export const titleKnown = (client: QueryClient, id: string): string =>
  client.getQueryData<Pages>(keyOf(EVERYTHING))?.pages.flatMap(({ data }) => data).find((one) => one.id === id)?.title ?? "";

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
  if (client.isFetching({ queryKey }) > 0) void readAnew(client, queryKey);
}

/** Also what is on its way for the first time, which the client by itself would wait for. */
async function readAnew(client: QueryClient, queryKey: readonly string[]): Promise<void> {
  await client.cancelQueries({ queryKey, predicate: ({ state }) => state.data === undefined });
  await client.invalidateQueries({ queryKey });
}

function changeConversations(client: QueryClient, change: (conversation: Conversation) => Conversation | null): void {
  client.setQueriesData<Pages>({ queryKey: KEY }, (pages) => {
    if (!pages) return pages;
    const changed = pages.pages.map((page) => ({ ...page, data: page.data.map(change).filter((one) => one !== null) }));
    return { ...pages, pages: changed };
  });
}

export const refreshConversations = (client: QueryClient) => readAnew(client, KEY);

export const refreshRunningTurns = (client: QueryClient) => readAnew(client, RUNNING);

export function useRename() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ id, title }: { id: string; title: string }) => renameConversation(id, title),
    onMutate: ({ id, title }) => changeConversations(client, (one) => (one.id === id ? { ...one, title } : one)),
    onSettled: () => refreshConversations(client),
  });
}

export interface BulkChange {
  action: BulkAction;
  ids: readonly string[];
  /** Of a move: where to; null takes out of the project. */
  projectId?: string | null;
}

const BULK = ["bulk"] as const;

/** Whether this page is deleting this conversation, and so will see to what it shows by itself. */
export const isBeingDeleted = (client: QueryClient, conversationId: string): boolean =>
  client.isMutating({
    mutationKey: BULK,
    predicate: ({ state }) => {
      const change = state.variables as BulkChange | undefined;
      return change?.action === "delete" && change.ids.includes(conversationId);
    },
  }) > 0;

/** Pins, archives, moves, deletes or restores, one or many, here at once. */
export function useBulkChange() {
  const client = useQueryClient();
  return useMutation({
    mutationKey: BULK,
    mutationFn: ({ action, ids, projectId }: BulkChange) => changeInBulk(action, ids, projectId),
    onMutate: ({ action, ids, projectId }) => {
      const chosen = new Set(ids);
      changeConversations(client, (one) => (chosen.has(one.id) ? changed(one, action, projectId) : one));
    },
    onSettled: (_, __, { action, ids }) => {
      void client.invalidateQueries({ queryKey: ["projects"] });
      // By then the page shows something else; before, it would ask for the messages again.
      void refreshConversations(client).finally(() => {
        if (action !== "delete") return;
        for (const queryKey of ids.flatMap((id) => [["messages", id], ["conversation", id]])) client.removeQueries({ queryKey });
      });
    },
  });
}

/** Null: it leaves the list that it stands in. */
function changed(conversation: Conversation, action: BulkAction, projectId: string | null | undefined): Conversation | null {
  switch (action) {
    case "pin":
    case "unpin":
      return { ...conversation, pinned: action === "pin" };
    case "move":
      return { ...conversation, project_id: projectId ?? null };
    case "restore":
      return conversation;
    case "archive":
    case "unarchive":
    case "delete":
      return null;
  }
}
