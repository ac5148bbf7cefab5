import { type KeyboardEvent, memo, useState } from "react";
import { useTranslation } from "react-i18next";
import { t as translate } from "../../app/i18n";
import { isPlainClick } from "../../app/link";
import { navigate, pathOf } from "../../app/router";
import { exportPath } from "../../protocol/history";
import type { Conversation } from "../../protocol/wire";
import { download } from "../../ui/download";
import { Menu, type MenuItem } from "../../ui/Menu";
import { useRename } from "./conversations";

export const titleOf = (conversation: Conversation | undefined): string => conversation?.title || translate("newChat");

/** What is dragged when a conversation is. */
export const DRAGGED = "application/x-triplane-conversation";

export type RowAction = "pin" | "unpin" | "archive" | "unarchive" | "delete" | "move" | "select";

interface ConversationRowProps {
  conversation: Conversation;
  isCurrent: boolean;
  /** An answer is being written in it, here or on another device. */
  isRunning: boolean;
  /** Null while nothing is being selected. */
  isSelected: boolean | null;
  onChosen: () => void;
  onAction: (action: RowAction, id: string) => void;
}

export const ConversationRow = memo(function ConversationRow(props: ConversationRowProps) {
  const { conversation, isCurrent, isRunning, isSelected, onChosen, onAction } = props;
  const { t } = useTranslation(["history", "app"]);
  const [isRenaming, setIsRenaming] = useState(false);
  const { id, pinned, archived } = conversation;
  const title = titleOf(conversation);
  const path = pathOf(id);
  if (isRenaming) return <RenameRow conversation={conversation} onDone={() => setIsRenaming(false)} />;
  if (isSelected !== null) {
    return (
      <li>
        <label className={`flex min-h-9 items-center gap-2.5 rounded-lg px-3 text-sm hover:bg-hover pointer-coarse:min-h-11 ${isSelected ? "bg-hover" : ""}`}>
          <input type="checkbox" checked={isSelected} onChange={() => onAction("select", id)} className="size-4 shrink-0 accent-accent" />
          <span className="min-w-0 truncate">{title}</span>
        </label>
      </li>
    );
  }
  const act = (action: RowAction) => () => onAction(action, id);
  const items: MenuItem[] = [
    { icon: "pencil", label: t("rename"), onSelect: () => setIsRenaming(true) },
    ...(archived ? [] : [{ icon: "pin", label: t(pinned ? "unpin" : "pin"), onSelect: act(pinned ? "unpin" : "pin") } satisfies MenuItem]),
    { icon: "folder", label: t("move"), onSelect: act("move") },
    { icon: "archive", label: t(archived ? "unarchive" : "archive"), onSelect: act(archived ? "unarchive" : "archive") },
    { icon: "file", label: t("exportMarkdown"), onSelect: () => download(exportPath(id, "markdown")) },
    { icon: "file", label: t("exportJson"), onSelect: () => download(exportPath(id, "json")) },
    { icon: "select", label: t("select"), onSelect: act("select") },
    { icon: "trash", label: t("app:delete"), onSelect: act("delete"), isDanger: true },
  ];
  return (
    <li
      draggable
      onDragStart={(event) => event.dataTransfer.setData(DRAGGED, id)}
      className={`group/row relative flex items-center rounded-lg transition-colors pointer-coarse:min-h-11 ${isCurrent ? "bg-hover" : "hover:bg-hover"}`}
    >
      <a
        href={path}
        title={title}
        draggable={false}
        aria-current={isCurrent ? "page" : undefined}
        onClick={(event) => {
          if (!isPlainClick(event)) return;
          event.preventDefault();
          navigate(path);
          onChosen();
        }}
        className={`flex min-w-0 flex-1 items-center gap-2 rounded-lg py-2 ps-3 text-sm ${isCurrent ? "font-medium" : ""} ${conversation.title ? "" : "text-muted"}`}
      >
        <span className="min-w-0 truncate">{title}</span>
        {isRunning && <RunningMark />}
      </a>
      <Menu
        label={t("optionsFor", { title })}
        className={isCurrent ? "" : "opacity-0 group-focus-within/row:opacity-100 group-hover/row:opacity-100 aria-expanded:opacity-100 pointer-coarse:opacity-100"}
        items={items}
      />
    </li>
  );
});

function RunningMark() {
  const { t } = useTranslation("history");
  return (
    <span role="img" aria-label={t("answering")} title={t("answering")} className="grid size-4 shrink-0 place-items-center">
      <span className="size-2 animate-dot rounded-full bg-accent" />
    </span>
  );
}

function RenameRow({ conversation, onDone }: { conversation: Conversation; onDone: () => void }) {
  const { t } = useTranslation("history");
  const rename = useRename();
  const [title, setTitle] = useState(conversation.title ?? "");

  function save() {
    const wanted = title.trim();
    if (wanted !== "" && wanted !== conversation.title) rename.mutate({ id: conversation.id, title: wanted });
    onDone();
  }

  function onKeyDown(event: KeyboardEvent) {
    if (event.nativeEvent.isComposing) return;
    if (event.key === "Enter") save();
    if (event.key !== "Escape") return;
    event.preventDefault();
    onDone();
  }

  return (
    <li>
      <input
        autoFocus
        aria-label={t("conversationTitle")}
        value={title}
        maxLength={200}
        onChange={(event) => setTitle(event.target.value)}
        onFocus={(event) => event.target.select()}
        onKeyDown={onKeyDown}
        onBlur={save}
        className="w-full rounded-lg bg-raised px-3 py-2 text-sm outline-2 outline-accent"
      />
    </li>
  );
}
