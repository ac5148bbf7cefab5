import { memo } from "react";
import { type Message, textOf } from "../../protocol/wire";
import { AssistantMessage } from "./AssistantMessage";
import { UserMessage } from "./UserMessage";
import { useLiveTurn, useLiveTurns } from "./useLiveTurn";

/** This many at the end are always laid out; what lies above is, when it comes near the screen. */
const ALWAYS_LAID_OUT = 8;

interface MessageListProps {
  conversationId: string;
  messages: readonly Message[];
  /** Sends the last question once more. */
  onTryAgain: (text: string) => void;
}

export const MessageList = memo(function MessageList({ conversationId, messages, onTryAgain }: MessageListProps) {
  const liveTurns = useLiveTurns();
  const liveKey = useLiveTurn(conversationId, (turn) => turn?.key ?? null);
  const liveUserText = useLiveTurn(conversationId, (turn) => turn?.userText ?? null);
  const liveTurnId = useLiveTurn(conversationId, (turn) => turn?.state.turnId ?? null);
  const hasAnswer = useLiveTurn(
    conversationId,
    (turn) => turn !== null && (turn.phase !== "refused" || turn.state.turnId !== null),
  );
  const stored = messages.filter((message) => isShown(message) && !isInLive(message, liveTurnId, liveUserText));
  const lastUserText = textOf(stored.findLast((message) => message.role === "user")?.content ?? null);
  return (
    <div className="flex flex-col gap-8">
      {stored.map((message, index) => {
        const isLast = index === stored.length - 1 && liveKey === null;
        return (
          <div key={liveTurns.keyOf(message.id)} className={stored.length - index > ALWAYS_LAID_OUT ? "lay-out-late" : ""}>
            {message.role === "user" ? (
              <UserMessage text={textOf(message.content)} />
            ) : (
              <AssistantMessage
                conversationId={conversationId}
                message={message}
                isLast={isLast}
                onTryAgain={isLast && lastUserText !== "" ? () => onTryAgain(lastUserText) : null}
              />
            )}
          </div>
        );
      })}
      {liveKey !== null && liveUserText !== null && <UserMessage key={`${liveKey}:user`} text={liveUserText} isNew />}
      {liveKey !== null && hasAnswer && (
        <div key={liveKey}>
          <AssistantMessage conversationId={conversationId} message={null} isLast onTryAgain={null} />
        </div>
      )}
    </div>
  );
});

/** What tools said, and a system's words, are not shown as messages. */
const isShown = (message: Message): boolean => message.role === "user" || message.role === "assistant";

function isInLive(message: Message, turnId: string | null, userText: string | null): boolean {
  if (turnId === null || message.turn_id !== turnId) return false;
  return message.role === "assistant" || userText !== null;
}
