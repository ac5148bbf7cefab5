import { useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { navigate, useRoute } from "../../app/router";
import type { Conversation, User } from "../../protocol/wire";
import { Button, IconButton } from "../../ui/Button";
import { Icon, Logo } from "../../ui/Icon";
import { AccountBar } from "../session/AccountBar";
import { ConversationRow } from "./ConversationRow";
import { useConversations, useRunning } from "./conversations";
import { DeleteDialog } from "./DeleteDialog";
import { groupByTime } from "./groups";

interface SidebarProps {
  me: User;
  closeLabel: string;
  onClose: () => void;
  /** Something was chosen: on a phone the drawer has done its work. */
  onChosen: () => void;
}

export function Sidebar({ me, closeLabel, onClose, onChosen }: SidebarProps) {
  const { t } = useTranslation(["history", "app"]);
  const [deleting, setDeleting] = useState<Conversation | null>(null);
  const newChat = () => {
    navigate("/");
    onChosen();
  };
  return (
    <div className="flex h-full flex-col bg-sidebar">
      <div className="flex h-14 items-center justify-between ps-4 pe-2">
        <span className="flex items-center gap-2.5 font-semibold tracking-tight">
          <Logo /> Triplane
        </span>
        <IconButton icon="sidebar" label={closeLabel} onClick={onClose} />
      </div>
      <div className="px-2 pb-2">
        <a
          href="/"
          onClick={(event) => isPlainClick(event) && (event.preventDefault(), newChat())}
          className="flex h-10 items-center gap-2.5 rounded-xl border border-line bg-raised px-3 text-sm font-medium shadow-rest transition-colors hover:border-line-strong"
        >
          <Icon name="compose" className="size-5 text-accent" /> {t("app:newChat")}
        </a>
      </div>
      <nav aria-label={t("title")} className="min-h-0 flex-1 overflow-y-auto px-2 pb-4">
        <History onChosen={onChosen} onDelete={setDeleting} />
      </nav>
      <AccountBar me={me} />
      {deleting && <DeleteDialog conversation={deleting} onClose={() => setDeleting(null)} />}
    </div>
  );
}

export const isPlainClick = (event: { metaKey: boolean; ctrlKey: boolean; shiftKey: boolean; button: number }): boolean =>
  !event.metaKey && !event.ctrlKey && !event.shiftKey && event.button === 0;

interface HistoryProps {
  onChosen: () => void;
  onDelete: (conversation: Conversation) => void;
}

function History({ onChosen, onDelete }: HistoryProps) {
  const { t } = useTranslation(["history", "app"]);
  const route = useRoute();
  const running = useRunning();
  const { data, isError, isPending, refetch, hasNextPage, fetchNextPage, isFetchingNextPage } = useConversations();
  if (isPending) return null;
  if (isError && !data) {
    return (
      <div className="px-2 pt-2 text-sm text-muted">
        <p>{t("unreadable")}</p>
        <Button className="mt-2" onClick={() => void refetch()}>
          {t("app:retry")}
        </Button>
      </div>
    );
  }
  if (data.length === 0) return <p className="px-3 pt-3 text-sm text-muted">{t("empty")}</p>;
  const current = route.name === "conversation" ? route.id : null;
  return (
    <>
      {groupByTime(data, new Date()).map(({ label, conversations }) => (
        <section key={label} aria-label={label}>
          <h2 className="px-3 pt-4 pb-1 text-xs font-medium text-muted">{label}</h2>
          <ul>
            {conversations.map((conversation) => (
              <ConversationRow
                key={conversation.id}
                conversation={conversation}
                isCurrent={conversation.id === current}
                isRunning={running.has(conversation.id)}
                onChosen={onChosen}
                onDelete={onDelete}
              />
            ))}
          </ul>
        </section>
      ))}
      {hasNextPage && <MoreOnScroll isReading={isFetchingNextPage} onMore={() => void fetchNextPage()} />}
    </>
  );
}

/** Reads on when it scrolls into sight; it is a button too, for whoever doesn't scroll. */
function MoreOnScroll({ isReading, onMore }: { isReading: boolean; onMore: () => void }) {
  const { t } = useTranslation(["history", "app"]);
  const ref = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    const button = ref.current;
    if (!button || isReading) return;
    const observer = new IntersectionObserver(([entry]) => entry?.isIntersecting && onMore());
    observer.observe(button);
    return () => observer.disconnect();
  }, [isReading, onMore]);
  return (
    <button ref={ref} type="button" onClick={onMore} disabled={isReading} className="mt-2 h-9 w-full rounded-lg text-sm text-muted hover:bg-hover">
      {t(isReading ? "reading" : "showOlder")}
    </button>
  );
}
