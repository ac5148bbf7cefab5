/** The stored messages of a conversation. A refresh reads only what may have changed: from the last settled one on. */

import { type QueryClient, useQuery } from "@tanstack/react-query";
import { getConversation, listMessages, listMessagesBefore, Problem, showBranch } from "../../protocol/client";
import type { ActivityEvent, MessageStatus } from "../../protocol/wire";
import { keepConversation } from "./conversationSettings";
import { doubtTurn, emptyThread, isKnown, newestLeafBelow, settledPart, shownPath, type Thread } from "./thread";

const MESSAGES = "messages";
/** How many are read at once, the newest first. */
const PAGE = 100;
const keyOf = (conversationId: string) => [MESSAGES, conversationId] as const;

const isGrowing = ({ messages, leafId }: Thread): boolean => messages.find(({ id }) => id === leafId)?.status === "streaming";

async function readThread(client: QueryClient, conversationId: string, signal?: AbortSignal): Promise<Thread> {
  const known = client.getQueryData<Thread>(keyOf(conversationId)) ?? emptyThread;
  const settled = settledPart(known);
  // The leaf first: whatever it is, the messages read afterwards have it.
  const conversation = await getConversation(conversationId, signal);
  keepConversation(client, conversation);
  const leafId = conversation.active_leaf;
  const last = settled.at(-1);
  if (last) {
    const news = await listMessages(conversationId, last.seq, signal);
    return { messages: [...settled, ...news], hasOlder: known.hasOlder, leafId, doubtedFrom: null };
  }
  let thread: Thread = { messages: [], hasOlder: true, leafId, doubtedFrom: null };
  // As many as there are at first, or as were known before.
  do thread = await withOlder(thread, conversationId, Math.max(PAGE, known.messages.length), signal);
  while (thread.hasOlder && leafId !== null && !thread.messages.some(({ id }) => id === leafId));
  return thread;
}

async function withOlder(thread: Thread, conversationId: string, limit: number, signal?: AbortSignal): Promise<Thread> {
  const older = await listMessagesBefore(conversationId, thread.messages[0]?.seq ?? null, Math.min(limit, 1000), signal);
  return { ...thread, messages: [...older.data, ...thread.messages], hasOlder: older.has_more ?? false };
}

/** Reads one page more of what was said before. */
export async function loadOlderMessages(client: QueryClient, conversationId: string): Promise<void> {
  const key = keyOf(conversationId);
  const thread = client.getQueryData<Thread>(key);
  if (!thread?.hasOlder) return;
  const { messages: all, hasOlder } = await withOlder(thread, conversationId, PAGE);
  const first = thread.messages[0];
  client.setQueryData<Thread>(key, (now) => {
    // It may have been read anew meanwhile.
    if (!now || now.messages[0]?.seq !== first?.seq) return now;
    return { ...now, messages: [...all.slice(0, all.length - thread.messages.length), ...now.messages], hasOlder };
  });
}

export function useThread(client: QueryClient, conversationId: string, isLive: boolean) {
  return useQuery({
    queryKey: keyOf(conversationId),
    queryFn: ({ signal }) => readThread(client, conversationId, signal),
    // Followed turns bring their own text; a turn that can't be followed is looked at now and then.
    refetchInterval: (query) => (!isLive && query.state.data && isGrowing(query.state.data) ? 3000 : false),
    enabled: !isLive,
    select: shownThread,
  });
}

const shownThread = (thread: Thread) => ({ path: shownPath(thread), hasOlder: thread.hasOlder });

export const startEmpty = (client: QueryClient, conversationId: string): unknown =>
  client.setQueryData<Thread>(keyOf(conversationId), emptyThread);

/** Reads back from the store what is new, and what this turn has changed. */
export async function refreshMessages(client: QueryClient, conversationId: string, turnId: string | null = null): Promise<void> {
  const key = keyOf(conversationId);
  await client.cancelQueries({ queryKey: key });
  if (turnId !== null) client.setQueryData<Thread>(key, (thread) => thread && doubtTurn(thread, turnId));
  client.setQueryData(key, await readThread(client, conversationId));
}

/** Takes in what has happened elsewhere: a conversation on the screen is read again at once, another when it is opened. */
export function applyToThread(client: QueryClient, event: ActivityEvent): void {
  const { conversation_id: conversationId, turn_id: turnId } = event;
  const key = keyOf(conversationId);
  const thread = client.getQueryData<Thread>(key);
  if (thread && isKnown(thread, event)) return;
  if (thread && turnId !== undefined) client.setQueryData<Thread>(key, doubtTurn(thread, turnId));
  void client.invalidateQueries({ queryKey: key });
}

/** As after a gap: nothing that was read is certain. */
export function doubtAllMessages(client: QueryClient): void {
  client.setQueriesData<Thread>({ queryKey: [MESSAGES] }, (thread) => thread && { ...thread, doubtedFrom: 0 });
  void client.invalidateQueries({ queryKey: [MESSAGES] });
}

/** What is shown of it goes away. */
export const forgetMessages = (client: QueryClient, conversationId: string) =>
  client.resetQueries({ queryKey: keyOf(conversationId) });

const newestSeq = (client: QueryClient, conversationId: string): number =>
  client.getQueryData<Thread>(keyOf(conversationId))?.messages.at(-1)?.seq ?? 0;

/** Looks whether the store has more than the page knew, and takes it in. No, if that can't be known now. */
export async function hasNewMessages(client: QueryClient, conversationId: string): Promise<boolean> {
  const known = newestSeq(client, conversationId);
  try {
    await refreshMessages(client, conversationId);
  } catch (error) {
    if (error instanceof Problem) return false;
    throw error;
  }
  return newestSeq(client, conversationId) > known;
}

/** How the conversation's last message stands in the store; null: there is none, or it can't be known now. */
export async function readEnd(client: QueryClient, conversationId: string): Promise<MessageStatus | null> {
  try {
    await refreshMessages(client, conversationId);
  } catch (error) {
    if (error instanceof Problem) return null;
    throw error;
  }
  const thread = client.getQueryData<Thread>(keyOf(conversationId));
  return thread?.messages.find(({ id }) => id === thread.leafId)?.status ?? null;
}

export async function findGrowingTurn(conversationId: string): Promise<string | null> {
  const { data } = await listMessagesBefore(conversationId, null, 20);
  return data.findLast((message) => message.status === "streaming")?.turn_id ?? null;
}

/** Shows the branch of this message, here at once and on every device from now on. */
export async function chooseBranch(client: QueryClient, conversationId: string, messageId: string): Promise<void> {
  client.setQueryData<Thread>(
    keyOf(conversationId),
    (thread) => thread && { ...thread, leafId: newestLeafBelow(thread.messages, messageId) },
  );
  try {
    await showBranch(conversationId, messageId);
  } finally {
    await refreshMessages(client, conversationId);
  }
}
