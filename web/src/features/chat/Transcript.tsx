/** What has been said in a conversation. */

import { useQueryClient } from "@tanstack/react-query";
import { type RefObject, useCallback, useEffect, useMemo, useRef } from "react";
import { useTranslation } from "react-i18next";
import { navigate } from "../../app/router";
import { Problem } from "../../protocol/client";
import { type Message, textOf } from "../../protocol/wire";
import { Button } from "../../ui/Button";
import { Notice } from "../../ui/Notice";
import { type MessageActions, MessageList } from "./MessageList";
import { chooseBranch, loadOlderMessages, useThread } from "./messages";
import { problemWords } from "./problemWords";
import { useLiveTurn, useLiveTurns } from "./useLiveTurn";

interface TranscriptProps {
  conversationId: string;
  /** What scrolls. */
  box: RefObject<HTMLDivElement | null>;
  onBegin: () => void;
  onLookBack: () => void;
}

export function Transcript({ conversationId, box, onBegin, onLookBack }: TranscriptProps) {
  const client = useQueryClient();
  const { t } = useTranslation(["chat", "app"]);
  const isLive = useLiveTurn(conversationId, (turn) => turn !== null);
  const { data, error, isPending, refetch } = useThread(client, conversationId, isLive);
  const actions = useActions(conversationId, onBegin);
  useFollow(conversationId, data?.path.at(-1)?.message);
  const loadOlder = useCallback(() => loadOlderMessages(client, conversationId), [client, conversationId]);
  if (data) {
    return (
      <div className="mx-auto w-full max-w-3xl px-4 pt-6 pb-10 md:px-6">
        <h1 className="sr-only">{t("conversation")}</h1>
        <MessageList conversationId={conversationId} path={data.path} onOlder={data.hasOlder ? loadOlder : null} box={box} actions={actions} onLookBack={onLookBack} />
      </div>
    );
  }
  if (error instanceof Problem) return <Unreadable problem={error} onRetry={() => void refetch()} />;
  return isPending ? <Placeholder /> : null;
}

function useActions(conversationId: string, onBegin: () => void): MessageActions {
  const client = useQueryClient();
  const liveTurns = useLiveTurns();
  return useMemo(
    () => ({
      goOn: ({ id, turn_id, model, content }) => {
        onBegin();
        if (turn_id !== null) liveTurns.continue(conversationId, turn_id, id, model, textOf(content));
      },
      answerAgain: ({ turn_id, parent_id }, model) => {
        onBegin();
        if (turn_id !== null) liveTurns.regenerate(conversationId, turn_id, parent_id, model);
      },
      edit: ({ parent_id }, text) => {
        onBegin();
        liveTurns.send(conversationId, text, parent_id);
      },
      // If it can't be kept, the refresh behind it shows the branch that is.
      choose: (messageId) => void chooseBranch(client, conversationId, messageId).catch(() => undefined),
    }),
    [client, liveTurns, conversationId, onBegin],
  );
}

/** A turn that was going on when this page was opened is followed from its first event, once. */
function useFollow(conversationId: string, last: Message | undefined): void {
  const liveTurns = useLiveTurns();
  const followed = useRef(new Set<string>());
  useEffect(() => {
    // One that has ended may be continued, and so followed, once more.
    if (last?.turn_id && last.status !== "streaming") followed.current.delete(last.turn_id);
    if (last?.status !== "streaming" || last.turn_id === null || followed.current.has(last.turn_id)) return;
    followed.current.add(last.turn_id);
    liveTurns.follow(conversationId, last.turn_id, last.id, last.model, textOf(last.content));
  }, [liveTurns, conversationId, last]);
}

function Unreadable({ problem, onRetry }: { problem: Problem; onRetry: () => void }) {
  const { t } = useTranslation(["chat", "app"]);
  const isGone = problem.status === 404;
  return (
    <div className="mx-auto max-w-3xl px-4 pt-16 md:px-6">
      <Notice
        actions={
          <Button look="primary" onClick={isGone ? () => navigate("/") : onRetry}>
            {t(isGone ? "app:newChat" : "app:retry")}
          </Button>
        }
      >
        {isGone ? t("gone") : problemWords(problem, problem.retryAfterS ?? 0)}
      </Notice>
    </div>
  );
}

function Placeholder() {
  const { t } = useTranslation();
  return (
    <div aria-busy="true" aria-label={t("loading")} role="status" className="mx-auto max-w-3xl animate-arrive space-y-4 px-4 pt-6 [animation-delay:300ms] [animation-fill-mode:backwards] md:px-6">
      <div className="ms-auto h-11 w-2/5 rounded-3xl bg-bubble" />
      <div className="h-4 w-11/12 rounded bg-bubble" />
      <div className="h-4 w-4/5 rounded bg-bubble" />
      <div className="h-4 w-3/5 rounded bg-bubble" />
    </div>
  );
}
