import type { TFunction } from "i18next";
import { lazy, memo, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { type Message, type MessageStatus, textOf } from "../../protocol/wire";
import { shownText } from "../../stream/turn";
import { Icon, Logo } from "../../ui/Icon";
import { Late } from "../../ui/Late";
import { AnswerActions } from "./AnswerActions";
import type { MessageActions } from "./MessageList";
import { useFailure } from "./useFailure";
import { useLiveTurn, useLiveTurns } from "./useLiveTurn";

const Markdown = lazy(() => import("./markdown/Markdown"));
/** Fetched while the answer is still being thought of, so that the first words needn't wait for it. */
export const warmUpMarkdown = (): unknown => import("./markdown/Markdown").catch(() => undefined);

interface AssistantMessageProps {
  conversationId: string;
  /** Null while the answer exists only as a live turn. */
  message: Message | null;
  isLast: boolean;
  /** Null while nothing can be done with it, as while another is being written. */
  actions: MessageActions | null;
  branches?: ReactNode;
}

export const AssistantMessage = memo(function AssistantMessage(props: AssistantMessageProps) {
  const { t } = useTranslation("chat");
  const { conversationId, message, isLast, actions, branches } = props;
  const live = useLiveTurn(message === null ? conversationId : null, (turn) => turn);
  const liveTurns = useLiveTurns();
  const name = message ? liveTurns.keyOf(message.id) : (live?.key ?? "");
  const isGrowing = live !== null && live.phase !== "ended" && live.phase !== "refused";
  const text = message ? textOf(message.content) : live ? shownText(live.state) : "";
  const model = message?.model ?? live?.state.model ?? null;
  const failure = useFailure(message);
  const error = live?.state.error ?? failure;
  const status = message?.status ?? live?.state.status ?? "streaming";
  const isWaiting = text === "" && (isGrowing || message?.status === "streaming");
  const canGoOn = isLast && text !== "" && (status === "stopped" || status === "incomplete" || message?.finish_reason === "length");
  const onGoOn = actions && message && canGoOn ? () => actions.goOn(message) : null;
  return (
    <article className="group/answer relative" aria-busy={isGrowing}>
      <h2 className="sr-only">{t("triplaneSaid")}</h2>
      <Logo className="absolute top-1 -start-10 hidden size-6 xl:block" />
      <div dir="auto" data-testid="answer">
        {isWaiting ? <WaitingDots /> : <Answer name={name} text={text} isGrowing={isGrowing} />}
      </div>
      {!isGrowing && (
        <>
          <StatusNote status={status} finishReason={message?.finish_reason ?? null} detail={error?.message} onGoOn={onGoOn} />
          <AnswerActions
            text={text}
            model={model}
            createdAt={message?.created_at}
            turnId={message?.turn_id ?? null}
            isLast={isLast}
            onAgain={actions && message && ((asked) => actions.answerAgain(message, asked))}
            branches={branches}
          />
        </>
      )}
    </article>
  );
});

/** The plain text stands in while the Markdown renderer loads, and where it can't be had. */
function Answer({ name, text, isGrowing }: { name: string; text: string; isGrowing: boolean }) {
  const plain = <div className="prose whitespace-pre-wrap">{text}</div>;
  return (
    <Late meanwhile={plain} instead={plain}>
      <Markdown name={name} text={text} isGrowing={isGrowing} />
    </Late>
  );
}

function WaitingDots() {
  return (
    <p className="flex h-7 items-center gap-1.5" aria-hidden="true">
      {["", "[animation-delay:150ms]", "[animation-delay:300ms]"].map((delay) => (
        <span key={delay} className={`size-2 animate-dot rounded-full bg-accent ${delay}`} />
      ))}
    </p>
  );
}

interface StatusNoteProps {
  status: MessageStatus;
  finishReason: Message["finish_reason"];
  detail: string | undefined;
  onGoOn: (() => void) | null;
}

function StatusNote({ status, finishReason, detail, onGoOn }: StatusNoteProps) {
  const { t } = useTranslation("chat");
  const words = statusWords(t, status, finishReason, detail);
  if (words === null) return null;
  return (
    <p className="mt-3 flex flex-wrap items-center gap-x-3 gap-y-1 text-sm text-muted" data-testid="status">
      <span className="inline-flex items-center gap-1.5 rounded-full bg-bubble px-2.5 py-1 text-xs font-medium">
        {status === "failed" && <Icon name="warning" className="size-3.5 text-danger-ink" />}
        {words}
      </span>
      {onGoOn && (
        <button type="button" onClick={onGoOn} className="inline-flex items-center gap-1 rounded-md text-accent hover:underline">
          <Icon name="forth" className="size-4" /> {t("continue")}
        </button>
      )}
    </p>
  );
}

function statusWords(t: TFunction<"chat">, status: MessageStatus, finishReason: Message["finish_reason"], detail: string | undefined): string | null {
  switch (status) {
    case "stopped":
      return t("status.stopped");
    case "incomplete":
      return t("status.incomplete");
    case "failed":
      return detail ?? t("status.failed");
    case "complete":
      if (finishReason === "length") return t("status.length");
      return finishReason === "content_filter" ? t("status.heldBack") : null;
    case "streaming":
      return null;
  }
}
