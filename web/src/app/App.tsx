import { MutationCache, QueryCache, QueryClient, QueryClientProvider, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { writeDraft } from "../features/chat/drafts";
import { LiveTurns } from "../features/chat/liveTurns";
import { findGrowingTurn, hasNewMessages, refreshMessages } from "../features/chat/messages";
import { findModel } from "../features/chat/models";
import { LiveTurnsContext } from "../features/chat/useLiveTurn";
import { awaitTitle, refreshConversations } from "../features/history/conversations";
import { SignedOut } from "../features/session/SignedOut";
import { ME, useMe } from "../features/session/session";
import { Problem } from "../protocol/client";
import { Button } from "../ui/Button";
import { Notice } from "../ui/Notice";
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

function createLiveTurns(client: QueryClient): LiveTurns {
  return new LiveTurns({
    onAccepted: () => void refreshConversations(client),
    onEnded: async ({ conversationId, state }) => {
      await refreshMessages(client, conversationId, state.turnId);
      void awaitTitle(client, conversationId);
    },
    onRefused: async ({ conversationId, userText, state }) => {
      // A message that wasn't taken in survives a reload in the composer.
      if (userText !== null && state.turnId === null) writeDraft(conversationId, userText);
      if (!(await hasNewMessages(client, conversationId))) return false;
      writeDraft(conversationId, "");
      return true;
    },
    findModel: () => findModel(client),
    findTurn: (conversationId) => findGrowingTurn(conversationId),
  });
}

export function App() {
  const [client] = useState(createClient);
  const [liveTurns] = useState(() => createLiveTurns(client));
  return (
    <QueryClientProvider client={client}>
      <LiveTurnsContext value={liveTurns}>
        <Door />
      </LiveTurnsContext>
    </QueryClientProvider>
  );
}

function Door() {
  const client = useQueryClient();
  const { data: me, isPending, isError, refetch } = useMe();
  if (me) return <Shell me={me} />;
  if (me === null) return <SignedOut onLookAgain={() => void client.resetQueries({ queryKey: ME })} />;
  if (isPending || !isError) return <div aria-busy="true" className="h-full" />;
  return (
    <main className="mx-auto max-w-lg p-4 pt-[20vh]">
      <Notice actions={<Button onClick={() => void refetch()}>Retry</Button>}>Triplane’s server can’t be reached.</Notice>
    </main>
  );
}
