import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { navigate, pathOf } from "../../app/router";
import { createConversation, Problem } from "../../protocol/client";
import { type Message, textOf } from "../../protocol/wire";
import { Button } from "../../ui/Button";
import { Icon } from "../../ui/Icon";
import { useIsOnline } from "../../ui/media";
import { Notice } from "../../ui/Notice";
import { applyToConversations } from "../history/conversations";
import { Announcer } from "./Announcer";
import { warmUpMarkdown } from "./AssistantMessage";
import { Composer, type ComposerHandle } from "./Composer";
import { writeDraft } from "./drafts";
import { EmptyState } from "./EmptyState";
import { type MessageActions, MessageList } from "./MessageList";
import { chooseBranch, startEmpty, useThread } from "./messages";
import { ModelPicker } from "./ModelPicker";
import { useModelChoice } from "./models";
import { problemWords } from "./problemWords";
import { RefusedNotice } from "./RefusedNotice";
import { useLiveTurn, useLiveTurns } from "./useLiveTurn";
import { useStickToEnd } from "./useStickToEnd";

/** One conversation, or the beginning of one. */
export function ChatPage({ conversationId }: { conversationId: string | null }) {
  const { t } = useTranslation(["chat", "app"]);
  const liveTurns = useLiveTurns();
  const choice = useModelChoice();
  const composer = useRef<ComposerHandle>(null);
  const { box, content, isAtEnd, jumpToEnd } = useStickToEnd();
  const phase = useLiveTurn(conversationId, (turn) => turn?.phase ?? null);
  const isTurnStopping = useLiveTurn(conversationId, (turn) => turn?.isStopping ?? false);
  const beginning = useBeginning();
  const isStopping = beginning.isStopping || isTurnStopping;
  const isAnswering = beginning.isOpening || (phase !== null && phase !== "refused");

  const send = useCallback(
    (text: string) => {
      warmUpMarkdown();
      jumpToEnd();
      if (conversationId === null) void beginning.begin(text);
      else liveTurns.send(conversationId, text);
    },
    [liveTurns, conversationId, beginning.begin, jumpToEnd],
  );

  const stop = useCallback(() => {
    if (conversationId === null) beginning.stop();
    else liveTurns.stop(conversationId);
  }, [liveTurns, conversationId, beginning.stop]);

  useEffect(() => {
    if (!matchMedia("(pointer: coarse)").matches) composer.current?.focus();
  }, []);

  useEscape(isAnswering ? stop : null);

  return (
    <div className="relative flex min-h-0 flex-1 flex-col">
      <div ref={box} tabIndex={0} role="region" aria-label={t("messages")} className="min-h-0 flex-1 overflow-y-auto overscroll-contain outline-offset-[-2px]">
        <div ref={content} className="flex min-h-full flex-col">
          {conversationId === null ? (
            <EmptyState
              onPick={(text) => {
                composer.current?.fill(text);
                composer.current?.focus();
              }}
            />
          ) : (
            <Transcript conversationId={conversationId} onBegin={jumpToEnd} />
          )}
        </div>
      </div>
      <div className="fade-above relative mx-auto w-full max-w-3xl px-3 pb-[max(0.75rem,env(safe-area-inset-bottom))] md:px-6">
        {!isAtEnd && <JumpToEnd onClick={jumpToEnd} />}
        <div className="mb-2 empty:hidden">
          <Refusal
            conversationId={conversationId}
            problem={beginning.problem}
            onRetryBeginning={beginning.retry}
            onGiveBack={(text) => {
              composer.current?.fill(text);
              composer.current?.focus();
            }}
          />
          {phase !== "refused" && beginning.problem === null && <OfflineNote />}
        </div>
        <Composer
          ref={composer}
          conversationId={conversationId}
          isAnswering={isAnswering}
          isStopping={isStopping}
          isBlocked={phase === "refused" || beginning.problem !== null}
          onSend={send}
          onStop={stop}
        >
          <ModelPicker {...choice} />
        </Composer>
        <p className="mt-2 text-center text-xs text-faint">{t("mayBeWrong")}</p>
      </div>
      <Announcer conversationId={conversationId} />
    </div>
  );
}

interface Beginning {
  isOpening: boolean;
  isStopping: boolean;
  problem: Problem | null;
  begin: (text: string) => Promise<void>;
  retry: () => void;
  /** The turn is stopped as soon as there is one. */
  stop: () => void;
}

/** The first message of a new chat: makes the conversation, sends, and goes to its address. */
function useBeginning(): Beginning {
  const client = useQueryClient();
  const liveTurns = useLiveTurns();
  const [isOpening, setIsOpening] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [isStopping, setIsStopping] = useState(false);
  const text = useRef("");
  const mustStop = useRef(false);

  const begin = useCallback(
    async (asked: string) => {
      text.current = asked;
      setIsOpening(true);
      setProblem(null);
      mustStop.current = false;
      try {
        const conversation = await createConversation();
        applyToConversations(client, { type: "conversation.created", conversation_id: conversation.id });
        startEmpty(client, conversation.id);
        liveTurns.send(conversation.id, asked);
        if (mustStop.current) liveTurns.stop(conversation.id);
        if (location.pathname === "/") navigate(pathOf(conversation.id));
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        setProblem(error);
        writeDraft(null, asked);
      } finally {
        setIsOpening(false);
        setIsStopping(false);
      }
    },
    [client, liveTurns],
  );
  const retry = useCallback(() => {
    writeDraft(null, "");
    void begin(text.current);
  }, [begin]);
  const stop = useCallback(() => {
    mustStop.current = true;
    setIsStopping(true);
  }, []);
  return { isOpening, isStopping, problem, begin, retry, stop };
}

function Transcript({ conversationId, onBegin }: { conversationId: string; onBegin: () => void }) {
  const client = useQueryClient();
  const { t } = useTranslation(["chat", "app"]);
  const isLive = useLiveTurn(conversationId, (turn) => turn !== null);
  const { data, error, isPending, refetch } = useThread(client, conversationId, isLive);
  const actions = useActions(conversationId, onBegin);
  useFollow(conversationId, data?.at(-1)?.message);
  if (data) {
    return (
      <div className="mx-auto w-full max-w-3xl px-4 pt-6 pb-10 md:px-6">
        <h1 className="sr-only">{t("conversation")}</h1>
        <MessageList conversationId={conversationId} path={data} actions={actions} />
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
      answerAgain: ({ turn_id, parent_id }) => {
        onBegin();
        if (turn_id !== null) liveTurns.regenerate(conversationId, turn_id, parent_id);
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

interface RefusalProps {
  conversationId: string | null;
  problem: Problem | null;
  onRetryBeginning: () => void;
  onGiveBack: (text: string) => void;
}

function Refusal({ conversationId, problem, onRetryBeginning, onGiveBack }: RefusalProps) {
  const liveTurns = useLiveTurns();
  const turn = useLiveTurn(conversationId, (live) => (live?.phase === "refused" ? live : null));
  if (conversationId === null) {
    return problem && <RefusedNotice problem={problem} onRetry={onRetryBeginning} onEdit={null} />;
  }
  if (!turn?.problem) return null;
  const giveBack = () => {
    liveTurns.dismiss(conversationId);
    onGiveBack(turn.userText ?? "");
  };
  const retry = () => {
    writeDraft(conversationId, "");
    liveTurns.retry(conversationId);
  };
  const canEdit = turn.userText !== null && turn.state.turnId === null;
  if (turn.kind === "regenerate" || turn.kind === "continue") {
    return <RefusedNotice problem={turn.problem} onRetry={retry} onEdit={null} onCancel={() => liveTurns.dismiss(conversationId)} />;
  }
  return <RefusedNotice problem={turn.problem} onRetry={retry} onEdit={canEdit ? giveBack : null} />;
}

function OfflineNote() {
  const { t } = useTranslation(["chat", "app"]);
  if (useIsOnline()) return null;
  return <p className="pt-1 text-center text-sm text-muted">{t("offline")}</p>;
}

function JumpToEnd({ onClick }: { onClick: () => void }) {
  const { t } = useTranslation(["chat", "app"]);
  return (
    <button
      type="button"
      aria-label={t("jumpToEnd")}
      title={t("jumpToEnd")}
      onClick={onClick}
      className="absolute -top-12 left-1/2 grid size-9 -translate-x-1/2 animate-arrive place-items-center rounded-full border border-line bg-raised text-muted shadow-float hover:text-ink"
    >
      <Icon name="down" className="size-4.5" />
    </button>
  );
}

/** Esc stops the answer, unless something nearer (a menu, a dialog, a rename) has use for it. */
function useEscape(onEscape: (() => void) | null): void {
  useEffect(() => {
    if (!onEscape) return;
    const onKeyDown = (event: KeyboardEvent) => {
      if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open], [data-drawer=open]")) return;
      onEscape();
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, [onEscape]);
}
