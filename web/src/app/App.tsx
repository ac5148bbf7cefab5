import { MutationCache, QueryCache, QueryClient, QueryClientProvider, useQueryClient } from "@tanstack/react-query";
import { lazy, useState } from "react";
import { useTranslation } from "react-i18next";
import { createLiveTurns } from "../features/chat/createLiveTurns";
import { LiveTurnsContext } from "../features/chat/useLiveTurn";
import { SignedOut } from "../features/session/SignedOut";
import { ME, useMe } from "../features/session/session";
import { Problem } from "../protocol/client";
import type { ActivityStream } from "../stream/activityStream";
import { Button } from "../ui/Button";
import { Late } from "../ui/Late";
import { Notice } from "../ui/Notice";
import { createActivity, useActivity } from "./activity";
import { useRoute } from "./router";
import { Shell } from "./Shell";

const SharedPage = lazy(() => import("../features/chat/SharedPage"));

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

export function App() {
  const [client] = useState(createClient);
  const [activity] = useState(() => createActivity(client));
  const [liveTurns] = useState(() => createLiveTurns(client, activity));
  return (
    <QueryClientProvider client={client}>
      <LiveTurnsContext value={liveTurns}>
        <Rooms activity={activity} />
      </LiveTurnsContext>
    </QueryClientProvider>
  );
}

/** A shared conversation is read without signing in; all else is behind the door. */
function Rooms({ activity }: { activity: ActivityStream }) {
  const route = useRoute();
  if (route.name !== "shared") return <Door activity={activity} />;
  return (
    <Late meanwhile={<div aria-busy="true" className="h-full" />}>
      <SharedPage secret={route.secret} />
    </Late>
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
