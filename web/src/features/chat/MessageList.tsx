import { memo, type RefObject, useCallback, useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { type Target, useTarget } from "../../app/router";
import { type Message, textOf } from "../../protocol/wire";
import { AssistantMessage } from "./AssistantMessage";
import { Branches, type Side } from "./Branches";
import { type Placed, pathUpTo } from "./thread";
import { UserMessage } from "./UserMessage";
import { useTail } from "./useTail";
import { useLiveTurn, useLiveTurns } from "./useLiveTurn";

/** This many at the end are always laid out; what lies above is, when it comes near the screen. */
const ALWAYS_LAID_OUT = 8;

/** What one can do with a message that is there. */
export interface MessageActions {
  goOn(answer: Message): void;
  /** By another model, if one is named. */
  answerAgain(answer: Message, model?: string): void;
  edit(question: Message, text: string): void;
  choose(messageId: string): void;
}

interface MessageListProps {
  conversationId: string;
  path: readonly Placed[];
  /** Reads what comes before the path's first message; null when that is the first one. */
  onOlder: (() => Promise<void>) | null;
  /** What scrolls. */
  box: RefObject<HTMLDivElement | null>;
  actions: MessageActions;
  /** What is read now isn't the end. */
  onLookBack: () => void;
}

export const MessageList = memo(function MessageList({ conversationId, path, onOlder, box, actions, onLookBack }: MessageListProps) {
  const { t } = useTranslation("chat");
  const liveTurns = useLiveTurns();
  const [chosen, setChosen] = useState<{ id: string; side: Side } | null>(null);
  const choose = useCallback(
    (id: string, side: Side) => {
      setChosen({ id, side });
      actions.choose(id);
    },
    [actions],
  );
  const liveKey = useLiveTurn(conversationId, (turn) => turn?.key ?? null);
  const liveUserText = useLiveTurn(conversationId, (turn) => turn?.userText ?? null);
  const liveParentId = useLiveTurn(conversationId, (turn) => turn?.parentId);
  const liveTurnId = useLiveTurn(conversationId, (turn) => turn?.state.turnId ?? (turn?.kind === "continue" ? turn.sourceTurnId : null));
  const hasAnswer = useLiveTurn(
    conversationId,
    (turn) => turn !== null && (turn.phase !== "refused" || turn.state.turnId !== null || turn.kind === "continue"),
  );
  const isLive = liveKey !== null;
  const shown = liveParentId === undefined ? path : pathUpTo(path, liveParentId);
  const all = shown.filter(({ message }) => !isInLive(message, liveTurnId, liveUserText));
  const target = useTarget();
  const wanted = target && all.findIndex(({ message }) => message.id === target.messageId);
  const { from, top, isMore } = useTail(all, onOlder, box, wanted);
  useInSight(wanted !== null && wanted >= from ? target : null, onLookBack);
  const stored = all.slice(from);
  return (
    <div className="flex flex-col gap-8">
      {isMore && (
        <div ref={top} role="status" className="grid h-8 place-items-center text-sm text-muted">
          {t("older")}
        </div>
      )}
      {stored.map((placed, index) => (
        <Row
          key={liveTurns.keyOf(placed.message.id)}
          conversationId={conversationId}
          placed={placed}
          isLate={stored.length - index > ALWAYS_LAID_OUT}
          isLast={index === stored.length - 1 && !isLive}
          isLive={isLive}
          cameBy={chosen?.id === placed.message.id ? chosen.side : null}
          actions={actions}
          onChoose={choose}
        />
      ))}
      {isLive && liveUserText !== null && <UserMessage key={`${liveKey}:user`} text={liveUserText} onEdit={null} isNew />}
      {isLive && hasAnswer && (
        <div key={liveKey}>
          <AssistantMessage conversationId={conversationId} message={null} isLast actions={null} />
        </div>
      )}
    </div>
  );
});

interface RowProps {
  conversationId: string;
  placed: Placed;
  /** Laid out only near the screen. */
  isLate: boolean;
  isLast: boolean;
  isLive: boolean;
  cameBy: Side | null;
  actions: MessageActions;
  onChoose: (messageId: string, side: Side) => void;
}

/** One message; it renders again only if something of it has changed. */
const Row = memo(function Row({ conversationId, placed, isLate, isLast, isLive, cameBy, actions, onChoose }: RowProps) {
  const { message, siblings } = placed;
  const branches = <Branches id={message.id} siblings={siblings} isDisabled={isLive} cameBy={cameBy} onChoose={onChoose} />;
  return (
    <div data-message={message.id} className={isLate ? "lay-out-late" : ""}>
      {message.role === "user" ? (
        <UserMessage
          text={textOf(message.content)}
          onEdit={isLive || typeof message.content !== "string" ? null : (text) => actions.edit(message, text)}
          branches={branches}
        />
      ) : (
        <AssistantMessage
          conversationId={conversationId}
          message={message}
          isLast={isLast}
          actions={isLive || message.turn_id === null ? null : actions}
          branches={branches}
        />
      )}
    </div>
  );
});

/** Scrolls to a message that stands in the page, with each visit, and marks it. */
function useInSight(target: Target | null, onLookBack: () => void): void {
  useEffect(() => {
    const row = target && document.querySelector(`[data-message="${CSS.escape(target.messageId)}"]`);
    if (!row) return;
    row.scrollIntoView({ block: "center" });
    onLookBack();
    row.classList.add("pointed-at");
    return () => row.classList.remove("pointed-at");
  }, [target, onLookBack]);
}

function isInLive(message: Message, turnId: string | null, userText: string | null): boolean {
  if (turnId === null || message.turn_id !== turnId) return false;
  return message.role === "assistant" || userText !== null;
}
