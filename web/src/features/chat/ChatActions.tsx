import { lazy, useLayoutEffect, useState } from "react";
import { createPortal } from "react-dom";
import { useTranslation } from "react-i18next";
import { IconButton } from "../../ui/Button";
import { Icon } from "../../ui/Icon";
import { Late, MissingAbove } from "../../ui/Late";

const ShareDialog = lazy(() => import("./ShareDialog").then(({ ShareDialog }) => ({ default: ShareDialog })));

interface ChatActionsProps {
  conversationId: string | null;
  isTemporary: boolean;
  /** For a chat that hasn't begun. */
  onTemporary: (isWanted: boolean) => void;
}

/** What one does with the conversation as a whole: in the bar above it. */
export function ChatActions({ conversationId, isTemporary, onTemporary }: ChatActionsProps) {
  const { t } = useTranslation("chat");
  const [bar, setBar] = useState<HTMLElement | null>(null);
  const [isSharing, setIsSharing] = useState(false);
  useLayoutEffect(() => setBar(document.getElementById("chat-actions")), []);
  if (bar === null) return null;
  if (conversationId === null) {
    return createPortal(
      <button
        type="button"
        aria-pressed={isTemporary}
        title={t("temporary.explained")}
        onClick={() => onTemporary(!isTemporary)}
        className="flex h-9 items-center gap-1.5 rounded-lg px-2.5 text-sm text-muted transition-colors hover:bg-hover hover:text-ink aria-pressed:bg-accent-soft aria-pressed:text-accent"
      >
        <Icon name="temporary" />
        {t("temporary.name")}
      </button>,
      bar,
    );
  }
  if (isTemporary) {
    return createPortal(
      <span title={t("temporary.explained")} className="flex h-9 items-center gap-1.5 px-2.5 text-sm text-accent">
        <Icon name="temporary" />
        {t("temporary.name")}
      </span>,
      bar,
    );
  }
  return createPortal(
    <>
      <IconButton icon="share" label={t("share.button")} onClick={() => setIsSharing(true)} />
      {isSharing && (
        <Late instead={<MissingAbove onClose={() => setIsSharing(false)} />}>
          <ShareDialog conversationId={conversationId} onClose={() => setIsSharing(false)} />
        </Late>
      )}
    </>,
    bar,
  );
}
