import { MutationCache, QueryCache, QueryClient, QueryClientProvider, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { writeDraft } from "../features/chat/drafts";
import { LiveTurns } from "../features/chat/liveTurns";
import { findGrowingTurn, forgetMessages, hasNewMessages, refreshMessages } from "../features/chat/messages";
import { findModel } from "../features/chat/models";
import { LiveTurnsContext } from "../features/chat/useLiveTurn";
import { refreshConversations } from "../features/history/conversations";
import { SignedOut } from "../features/session/SignedOut";
import { ME, useMe } from "../features/session/session";
import { Problem } from "../protocol/client";
import type { ActivityStream } from "../stream/activityStream";
import { Button } from "../ui/Button";
import { Notice } from "../ui/Notice";
import { createActivity, useActivity } from "./activity";
import { Shell } from "./Shell";

/** A refusal is an answer: only what may go away by itself is tried again. */
function isWorthRetrying(failures: number, error: Error): boolean {
  return failures < 2 && (!(error instanceof Problem) || error.status === 0 || error.status >= 500);
}

function createClient(): QueryClient {
  const onError = (error: Error) => {
    if (error instanceof Problem && error.status === 401) client.setQueryData(ME, null);
  };
  const client = new QueryClient({
    queryCache: new QueryCache({ onError }),
    mutationCache: new MutationCache({ onError }),
    defaultOptions: { queries: { retry: isWorthRetrying, staleTime: 10_000 } },
  });
  return client;
}

function createLiveTurns(client: QueryClient, activity: ActivityStream): LiveTurns {
  // What the turn changes in the list comes as events; while they can't come, the list is read.
  const lookAtList = () => activity.isOpen || void refreshConversations(client);
  return new LiveTurns({
    onAccepted: lookAtList,
    onEnded: async ({ conversationId, state }) => {
      await refreshMessages(client, conversationId, state.turnId);
      lookAtList();
    },
    onRefused: async ({ conversationId, userText, state }) => {
      // A message that wasn't taken in survives a reload in the composer.
      if (userText !== null && state.turnId === null) writeDraft(conversationId, userText);
      if (!(await hasNewMessages(client, conversationId))) return false;
      writeDraft(conversationId, "");
      return true;
    },
    onLetGo: ({ conversationId }) => forgetMessages(client, conversationId),
    findModel: () => findModel(client),
    findTurn: (conversationId) => findGrowingTurn(conversationId),
  });
}

export function App() {
  const [client] = useState(createClient);
  const [activity] = useState(() => createActivity(client));
  const [liveTurns] = useState(() => createLiveTurns(client, activity));
  return (
    <QueryClientProvider client={client}>
      <LiveTurnsContext value={liveTurns}>
        <Door activity={activity} />
      </LiveTurnsContext>
    </QueryClientProvider>
  );
}

function Door({ activity }: { activity: ActivityStream }) {
  const client = useQueryClient();
  const { t } = useTranslation();
  const { data: me, isPending, isError, refetch } = useMe();
  useActivity(activity, me === null);
  if (me) return <Shell me={me} />;
  if (me === null) return <SignedOut onLookAgain={() => void client.resetQueries({ queryKey: ME })} />;
  if (isPending || !isError) return <div aria-busy="true" className="h-full" />;
  return (
    <main className="mx-auto max-w-lg p-4 pt-[20vh]">
      <Notice actions={<Button onClick={() => void refetch()}>{t("retry")}</Button>}>{t("unreachable")}</Notice>
    </main>
  );
}
