/** Joins the turns that go on to what else the page keeps: messages, drafts, the queue, the list of conversations. */

import type { QueryClient } from "@tanstack/react-query";
import type { ActivityStream } from "../../stream/activityStream";
import { notifyOfAnswer } from "../../app/notifications";
import { refreshConversations, titleKnown } from "../history/conversations";
import { writeDraft } from "./drafts";
import { LiveTurns } from "./liveTurns";
import { findGrowingTurn, forgetMessages, hasNewMessages, refreshMessages } from "./messages";
import { findModel } from "./models";
import { nextQueued } from "./queue";

export function createLiveTurns(client: QueryClient, activity: ActivityStream): LiveTurns {
  // What the turn changes in the list comes as events; while they can't come, the list is read.
  const lookAtList = () => activity.isOpen || void refreshConversations(client);
  const liveTurns = new LiveTurns({
    onAccepted: lookAtList,
    onEnded: async ({ conversationId, state, beganMs }) => {
      if (state.status === "complete") notifyOfAnswer(conversationId, titleKnown(client, conversationId), beganMs);
      await refreshMessages(client, conversationId, state.turnId);
      lookAtList();
    },
    onSettled: ({ conversationId, state, isStopping }) => {
      if (state.status !== "complete" || isStopping) return;
      const next = nextQueued(conversationId);
      if (next) liveTurns.send(conversationId, next.text, undefined, next.requestId);
    },
    onRefused: async ({ conversationId, userText, state }) => {
      // A message that wasn't taken in survives a reload in the composer.
      if (userText !== null && state.turnId === null) writeDraft(conversationId, userText);
      if (!(await hasNewMessages(client, conversationId))) return false;
      writeDraft(conversationId, "");
      return true;
    },
    onLetGo: ({ conversationId }) => forgetMessages(client, conversationId),
    findModel: (conversationId) => findModel(client, conversationId),
    findTurn: (conversationId) => findGrowingTurn(conversationId),
  });
  return liveTurns;
}
