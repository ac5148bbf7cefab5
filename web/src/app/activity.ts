/** What happens on a person's other devices, taken into everything that this page shows. */

import type { QueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { applyToConversation } from "../features/chat/conversationSettings";
import { applyToThread, doubtAllMessages, forgetMessages } from "../features/chat/messages";
import { forgetUnsent } from "../features/chat/unsent";
import {
  applyToConversations,
  applyToRunningTurns,
  isBeingDeleted,
  refreshConversations,
  refreshRunningTurns,
} from "../features/history/conversations";
import { PROJECTS } from "../features/projects/projects";
import { ME } from "../features/session/session";
import { followActivity } from "../protocol/client";
import type { ActivityEvent } from "../protocol/wire";
import { ActivityStream } from "../stream/activityStream";
import { whileInSight } from "../stream/presence";
import { pauseUntilOnline } from "../stream/reading";

export function createActivity(client: QueryClient): ActivityStream {
  const onEvent = (event: ActivityEvent) => {
    applyToConversations(client, event);
    applyToConversation(client, event);
    applyToRunningTurns(client, event);
    if (event.type !== "conversation.deleted") return applyToThread(client, event);
    forgetUnsent(event.conversation_id);
    if (!isBeingDeleted(client, event.conversation_id)) void forgetMessages(client, event.conversation_id);
  };
  const onGap = () => {
    void refreshConversations(client);
    void refreshRunningTurns(client);
    doubtAllMessages(client);
  };
  return new ActivityStream(
    { open: followActivity, pause: pauseUntilOnline },
    {
      onEvent,
      onGap,
      onProjects: () => void client.invalidateQueries({ queryKey: PROJECTS }),
      onRefused: ({ status }) => status === 401 && client.setQueryData(ME, null),
    },
  );
}

/** Follows from before it is known who is here, so that the lists needn't be read twice. */
export function useActivity(activity: ActivityStream, isSignedOut: boolean): void {
  useEffect(() => (isSignedOut ? undefined : whileInSight((signal) => activity.run(signal))), [activity, isSignedOut]);
}
