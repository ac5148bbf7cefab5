import { type KeyboardEvent, memo, useState } from "react";
import { useTranslation } from "react-i18next";
import { t as translate } from "../../app/i18n";
import { navigate, pathOf } from "../../app/router";
import type { Conversation } from "../../protocol/wire";
import { Menu } from "../../ui/Menu";
import { useRename } from "./conversations";
import { isPlainClick } from "./Sidebar";

export const titleOf = (conversation: Conversation | undefined): string => conversation?.title || translate("newChat");

interface ConversationRowProps {
  conversation: Conversation;
  isCurrent: boolean;
  /** An answer is being written in it, here or on another device. */
  isRunning: boolean;
  onChosen: () => void;
  onDelete: (conversation: Conversation) => void;
}

export const ConversationRow = memo(function ConversationRow({ conversation, isCurrent, isRunning, onChosen, onDelete }: ConversationRowProps) {
  const { t } = useTranslation(["history", "app"]);
  const [isRenaming, setIsRenaming] = useState(false);
  const title = titleOf(conversation);
  const path = pathOf(conversation.id);
  if (isRenaming) return <RenameRow conversation={conversation} onDone={() => setIsRenaming(false)} />;
  return (
    <li className={`group/row relative flex items-center rounded-lg transition-colors ${isCurrent ? "bg-hover" : "hover:bg-hover"}`}>
      <a
        href={path}
        title={title}
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
        items={[
          { icon: "pencil", label: t("rename"), onSelect: () => setIsRenaming(true) },
          { icon: "trash", label: t("app:delete"), onSelect: () => onDelete(conversation), isDanger: true },
        ]}
      />
    </li>
  );
});

function RunningMark() {
  const { t } = useTranslation(["history", "app"]);
  return (
    <span role="img" aria-label={t("answering")} title={t("answering")} className="grid size-4 shrink-0 place-items-center">
      <span className="size-2 animate-dot rounded-full bg-accent" />
    </span>
  );
}

function RenameRow({ conversation, onDone }: { conversation: Conversation; onDone: () => void }) {
  const { t } = useTranslation(["history", "app"]);
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
