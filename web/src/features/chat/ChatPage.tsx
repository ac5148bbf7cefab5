import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import type { ConversationSettings } from "../../protocol/chat";
import { useCommands } from "../../app/commands";
import { Icon } from "../../ui/Icon";
import { useIsOnline } from "../../ui/media";
import { Announcer } from "./Announcer";
import { warmUpMarkdown } from "./AssistantMessage";
import { ChatActions } from "./ChatActions";
import { Composer, type ComposerHandle } from "./Composer";
import { useConversationSettings } from "./conversationSettings";
import { EmptyState } from "./EmptyState";
import { readEnd } from "./messages";
import { ModelPicker } from "./ModelPicker";
import { useModelChoice } from "./models";
import { Parameters } from "./Parameters";
import { QueueList } from "./QueueList";
import { enqueue, sendFirst } from "./queue";
import { Refusal } from "./Refusal";
import { Transcript } from "./Transcript";
import { type Beginnings, useBeginning } from "./useBeginning";
import { useEscape } from "./useEscape";
import { useLiveTurn, useLiveTurns } from "./useLiveTurn";
import { useStickToEnd } from "./useStickToEnd";

/** One conversation, or the beginning of one. */
export function ChatPage({ conversationId }: { conversationId: string | null }) {
  const { t } = useTranslation("chat");
  const client = useQueryClient();
  const liveTurns = useLiveTurns();
  const held = useConversationSettings(conversationId);
  const choice = useModelChoice(held);
  const [wantsTemporary, setWantsTemporary] = useState(false);
  useCommands(conversationId === null ? { temporary: () => setWantsTemporary((wanted) => !wanted) } : {});
  const composer = useRef<ComposerHandle>(null);
  const { box, content, isAtEnd, jumpToEnd, letGo } = useStickToEnd();
  const phase = useLiveTurn(conversationId, (turn) => turn?.phase ?? null);
  const isTurnStopping = useLiveTurn(conversationId, (turn) => turn?.isStopping ?? false);
  const beginning = useBeginning();
  const isStopping = beginning.isStopping || isTurnStopping;
  const isAnswering = beginning.isOpening || (phase !== null && phase !== "refused");

  const send = useCallback(
    (text: string) => {
      warmUpMarkdown();
      jumpToEnd();
      if (conversationId === null) void beginning.begin(text, beginningsOf(held.settings, wantsTemporary));
      else liveTurns.send(conversationId, text);
    },
    [liveTurns, conversationId, beginning.begin, jumpToEnd, held.settings, wantsTemporary],
  );

  const giveBack = (text: string) => {
    composer.current?.fill(text);
    composer.current?.focus();
  };

  const sendNext = () => {
    if (conversationId === null) return;
    jumpToEnd();
    void sendFirst(conversationId, {
      mayFollow: async (id) => (await readEnd(client, id)) !== "streaming",
      send: ({ text, requestId }) => liveTurns.send(conversationId, text, undefined, requestId),
    });
  };

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
            <EmptyState onPick={giveBack} />
          ) : (
            <Transcript conversationId={conversationId} box={box} onBegin={jumpToEnd} onLookBack={letGo} />
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
            onGiveBack={giveBack}
          />
          {phase !== "refused" && beginning.problem === null && <ConnectionNote isLost={phase === "reconnecting"} />}
        </div>
        {conversationId !== null && (
          <QueueList conversationId={conversationId} isWaiting={phase === null} onSendNext={sendNext} onEdit={giveBack} />
        )}
        <Composer
          ref={composer}
          conversationId={conversationId}
          isAnswering={isAnswering}
          isStopping={isStopping}
          isBlocked={phase === "refused" || beginning.problem !== null}
          onSend={send}
          onQueue={conversationId === null ? null : (text) => enqueue(conversationId, text)}
          onStop={stop}
        >
          {held.isReady && (
            <>
              <ModelPicker {...choice} />
              <Parameters {...held} />
            </>
          )}
        </Composer>
        <p className="mt-2 text-center text-xs text-faint">{t("mayBeWrong")}</p>
      </div>
      <Announcer conversationId={conversationId} />
      <ChatActions
        conversationId={conversationId}
        isTemporary={conversationId === null ? wantsTemporary : held.isTemporary}
        onTemporary={setWantsTemporary}
      />
    </div>
  );
}

/** Only what isn't as usual. */
const beginningsOf = (settings: ConversationSettings, temporary: boolean): Beginnings => ({
  ...(Object.keys(settings).length > 0 && { settings }),
  ...(temporary && { temporary }),
});

function ConnectionNote({ isLost }: { isLost: boolean }) {
  const { t } = useTranslation("chat");
  const isOnline = useIsOnline();
  if (isOnline && !isLost) return null;
  return (
    <p role="status" className="flex items-center justify-center gap-2 pt-1 text-center text-sm text-muted">
      <span aria-hidden="true" className={`size-2 rounded-full ${isOnline ? "animate-dot bg-accent" : "bg-danger"}`} />
      {t(isOnline ? "reconnecting" : "offline")}
    </p>
  );
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
