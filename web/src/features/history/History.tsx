import { useEffect, useRef } from "react";
import { useTranslation } from "react-i18next";
import { useRoute } from "../../app/router";
import type { ListView } from "../../protocol/history";
import type { Conversation } from "../../protocol/wire";
import { Button } from "../../ui/Button";
import { ConversationRow, type RowAction } from "./ConversationRow";
import { PINNED, uniqueById, useConversations, useRunning } from "./conversations";
import { groupByTime } from "./groups";

interface HistoryProps {
  view: ListView;
  /** Null while nothing is being selected. */
  selected: ReadonlySet<string> | null;
  onChosen: () => void;
  onAction: (action: RowAction, id: string) => void;
}

export function History({ view, selected, onChosen, onAction }: HistoryProps) {
  const { t } = useTranslation(["history", "app"]);
  const route = useRoute();
  const running = useRunning();
  const { data: listed, isPending, refetch, hasNextPage, fetchNextPage, isFetchingNextPage } = useConversations(view);
  const { data: pinned = [] } = useConversations(PINNED);
  const data = listed && withPins(listed, pinned, view);
  if (isPending) return null;
  if (!data) {
    return (
      <div className="px-2 pt-2 text-sm text-muted">
        <p>{t("unreadable")}</p>
        <Button className="mt-2" onClick={() => void refetch()}>
          {t("app:retry")}
        </Button>
      </div>
    );
  }
  if (data.length === 0) {
    return <p className="px-3 pt-3 text-sm text-muted">{t(view.archived ? "emptyArchive" : view.projectId ? "emptyProject" : "empty")}</p>;
  }
  const current = route.name === "conversation" ? route.id : null;
  return (
    <>
      {groupByTime(data, new Date()).map(({ label, conversations }) => (
        <section key={label} aria-label={label}>
          <h2 className="px-3 pt-4 pb-1 text-xs font-medium text-muted">{label}</h2>
          <ul className="lay-out-rows-late">
            {conversations.map((conversation) => (
              <ConversationRow
                key={conversation.id}
                conversation={conversation}
                isCurrent={conversation.id === current}
                isRunning={running.has(conversation.id)}
                isSelected={selected && selected.has(conversation.id)}
                onChosen={onChosen}
                onAction={onAction}
              />
            ))}
          </ul>
        </section>
      ))}
      {hasNextPage && <MoreOnScroll isReading={isFetchingNextPage} onMore={() => void fetchNextPage()} />}
    </>
  );
}

/** A pin may be older than all that has been read of the list. */
function withPins(listed: Conversation[], pinned: readonly Conversation[], { archived, projectId }: ListView): Conversation[] {
  if (archived) return listed;
  return uniqueById([...listed, ...pinned.filter(({ project_id }) => projectId === null || project_id === projectId)]);
}

/** Reads on when it scrolls into sight; it is a button too, for whoever doesn't scroll. */
function MoreOnScroll({ isReading, onMore }: { isReading: boolean; onMore: () => void }) {
  const { t } = useTranslation("history");
  const ref = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    const button = ref.current;
    if (!button || isReading) return;
    const observer = new IntersectionObserver(([entry]) => entry?.isIntersecting && onMore());
    observer.observe(button);
    return () => observer.disconnect();
  }, [isReading, onMore]);
  return (
    <button ref={ref} type="button" onClick={onMore} disabled={isReading} className="mt-2 h-11 w-full rounded-lg text-sm text-muted hover:bg-hover">
      {t(isReading ? "reading" : "showOlder")}
    </button>
  );
}
