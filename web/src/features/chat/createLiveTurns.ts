/** Joins the turns that go on to what else the page keeps: messages, drafts, the queue, the list of conversations. */

import type { QueryClient } from "@tanstack/react-query";
import type { ActivityStream } from "../../stream/activityStream";
import { notifyOfAnswer } from "../../app/notifications";
import { refreshConversations, titleKnown } from "../history/conversations";
import { dropFromDraft, returnToDraft } from "./drafts";
import { LiveTurns } from "./liveTurns";
import { findGrowingTurn, forgetMessages, hasNewMessages, readEnd, refreshMessages } from "./messages";
import { findModel } from "./models";
import { isQueued, sendFirst, unqueue } from "./queue";

export function createLiveTurns(client: QueryClient, activity: ActivityStream): LiveTurns {
  // What the turn changes in the list comes as events; while they can't come, the list is read.
  const lookAtList = () => activity.isOpen || void refreshConversations(client);
  const liveTurns = new LiveTurns({
    onAccepted: ({ conversationId, requestId }) => {
      unqueue(conversationId, requestId);
      lookAtList();
    },
    onEnded: async ({ conversationId, state, beganMs }) => {
      if (state.status === "complete") notifyOfAnswer(conversationId, titleKnown(client, conversationId), beganMs);
      await refreshMessages(client, conversationId, state.turnId);
      lookAtList();
    },
    onSettled: ({ conversationId, requestId, state, isStopping }) => {
      unqueue(conversationId, requestId);
      if (state.status !== "complete" || isStopping) return;
      void sendFirst(conversationId, {
        mayFollow: async (id) => (await readEnd(client, id)) === "complete",
        send: ({ text, requestId }) => liveTurns.send(conversationId, text, undefined, requestId),
      });
    },
    onRefused: async ({ conversationId, requestId, userText, state }) => {
      // A message that wasn't taken in survives a reload: in the queue, if it was there, or in the composer.
      const isDraft = userText !== null && state.turnId === null && !isQueued(conversationId, requestId);
      if (isDraft) returnToDraft(conversationId, userText);
      if (!(await hasNewMessages(client, conversationId))) return false;
      if (isDraft) dropFromDraft(conversationId, userText);
      unqueue(conversationId, requestId);
      return true;
    },
    onLetGo: ({ conversationId }) => forgetMessages(client, conversationId),
    findModel: (conversationId) => findModel(client, conversationId),
    findTurn: (conversationId) => findGrowingTurn(conversationId),
  });
  return liveTurns;
}
