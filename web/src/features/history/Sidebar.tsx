import { useCallback, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useCommands } from "../../app/commands";
import { isPlainClick } from "../../app/link";
import { navigate } from "../../app/router";
import type { ListView } from "../../protocol/history";
import type { User } from "../../protocol/wire";
import { IconButton } from "../../ui/Button";
import { Icon, Logo } from "../../ui/Icon";
import { MoveDialog } from "../projects/MoveDialog";
import { ProjectList } from "../projects/ProjectList";
import { AccountBar } from "../session/AccountBar";
import type { RowAction } from "./ConversationRow";
import { EVERYTHING } from "./conversations";
import { History } from "./History";
import { SearchResults } from "./SearchResults";
import { SelectionBar } from "./SelectionBar";
import { useChange } from "./useChange";

interface SidebarProps {
  me: User;
  closeLabel: string;
  onOpen: () => void;
  onClose: () => void;
  /** Something was chosen: on a phone the drawer has done its work. */
  onChosen: () => void;
}

export function Sidebar({ me, closeLabel, onOpen, onClose, onChosen }: SidebarProps) {
  const { t } = useTranslation(["history", "app"]);
  const [view, setView] = useState<ListView>(EVERYTHING);
  const [words, setWords] = useState("");
  const [selected, setSelected] = useState<ReadonlySet<string> | null>(null);
  const [moving, setMoving] = useState<readonly string[] | null>(null);
  const field = useRef<HTMLInputElement>(null);
  const change = useChange();
  const latestChange = useRef(change);
  latestChange.current = change;

  useCommands({
    search: () => {
      onOpen();
      requestAnimationFrame(() => field.current?.focus());
    },
  });

  const onAction = useCallback((action: RowAction, id: string) => {
    if (action === "select") setSelected((before) => toggled(before ?? new Set(), id));
    else if (action === "move") setMoving([id]);
    else latestChange.current({ action, ids: [id] });
  }, []);

  const show = (next: ListView) => {
    setView(next);
    setSelected(null);
  };
  return (
    <div className="flex h-full flex-col bg-sidebar">
      <div className="flex h-14 shrink-0 items-center justify-between ps-4 pe-2">
        <span className="flex items-center gap-2.5 font-semibold tracking-tight">
          <Logo /> Triplane
        </span>
        <IconButton icon="sidebar" label={closeLabel} onClick={onClose} />
      </div>
      <div className="space-y-2 px-2 pb-2">
        <a
          href="/"
          onClick={(event) => isPlainClick(event) && (event.preventDefault(), navigate("/"), onChosen())}
          className="flex h-10 items-center gap-2.5 rounded-xl border border-line bg-raised px-3 text-sm font-medium shadow-rest transition-colors hover:border-line-strong pointer-coarse:h-11"
        >
          <Icon name="compose" className="size-5 text-accent" /> {t("app:newChat")}
        </a>
        <label className="flex h-9 items-center gap-2.5 rounded-xl px-3 text-sm text-muted focus-within:bg-raised focus-within:outline-2 focus-within:outline-accent hover:bg-hover pointer-coarse:h-11">
          <Icon name="search" className="size-5" />
          <span className="sr-only">{t("search")}</span>
          <input
            ref={field}
            type="search"
            dir="auto"
            value={words}
            maxLength={200}
            placeholder={t("search")}
            onChange={(event) => setWords(event.target.value)}
            onKeyDown={(event) => event.key === "Escape" && words !== "" && (event.preventDefault(), setWords(""))}
            className="min-w-0 flex-1 bg-transparent text-ink outline-none placeholder:text-muted"
          />
        </label>
      </div>
      <nav aria-label={t("title")} className="min-h-0 flex-1 overflow-y-auto px-2 pb-4">
        {words.trim() !== "" ? (
          <SearchResults words={words} onChosen={onChosen} />
        ) : (
          <>
            <ProjectList view={view} onShow={show} onDrop={(id, projectId) => change({ action: "move", ids: [id], projectId })} />
            <History view={view} selected={selected} onChosen={onChosen} onAction={onAction} />
          </>
        )}
      </nav>
      {selected ? (
        <SelectionBar
          count={selected.size}
          isArchive={view.archived}
          onMove={() => setMoving([...selected])}
          onAction={(action) => {
            change({ action, ids: [...selected] });
            setSelected(null);
          }}
          onDone={() => setSelected(null)}
        />
      ) : (
        <AccountBar me={me} onChosen={onChosen} />
      )}
      {moving && (
        <MoveDialog
          onChoose={(projectId) => {
            change({ action: "move", ids: moving, projectId });
            setSelected(null);
          }}
          onClose={() => setMoving(null)}
        />
      )}
    </div>
  );
}

const MOST_SELECTED = 100;

function toggled(before: ReadonlySet<string>, id: string): ReadonlySet<string> {
  const next = new Set(before);
  if (!next.delete(id) && next.size < MOST_SELECTED) next.add(id);
  return next;
}
