/** Ctrl/⌘-K: commands and conversations by their words, chosen with the arrows. */

import { type KeyboardEvent, useEffect, useId, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { type CommandId, isOffered, runCommand } from "../../app/commands";
import { navigate } from "../../app/router";
import { Icon } from "../../ui/Icon";
import { placeOf, Segments, useSearch } from "../history/SearchResults";
import { Keys } from "./HelpSheet";
import { SHORTCUTS } from "./shortcuts";

const COMMANDS: readonly CommandId[] = [
  "newChat", "temporary", "search", "chooseModel", "pin", "archive", "exportMarkdown", "exportJson", "delete",
  "toggleSidebar", "theme", "settings", "usage", "help", "signOut",
];

export default function Palette({ onClose }: { onClose: () => void }) {
  const { t, i18n } = useTranslation("palette");
  const dialog = useRef<HTMLDialogElement>(null);
  const listId = useId();
  const [words, setWords] = useState("");
  const [at, setAt] = useState(0);
  const { data: hits = [] } = useSearch(words);
  const wanted = words.trim().toLocaleLowerCase(i18n.language);
  const commands = COMMANDS.filter(isOffered).filter((id) => t(`command.${id}`).toLocaleLowerCase(i18n.language).includes(wanted));
  const found = wanted === "" ? [] : hits;
  const count = commands.length + found.length;

  useEffect(() => {
    const element = dialog.current;
    element?.showModal();
    return () => element?.close();
  }, []);
  useEffect(() => {
    document.getElementById(`${listId}-${at}`)?.scrollIntoView({ block: "nearest" });
  }, [listId, at]);

  function choose(index: number) {
    const command = commands[index];
    const hit = found[index - commands.length];
    onClose();
    // The dialog gives the focus back first, and the command may take it.
    requestAnimationFrame(() => {
      if (command) runCommand(command);
      else if (hit) navigate(placeOf(hit));
    });
  }

  function onKeyDown(event: KeyboardEvent) {
    if (event.nativeEvent.isComposing || count === 0) return;
    const step = { ArrowDown: 1, ArrowUp: count - 1 }[event.key];
    if (step !== undefined) setAt((at + step) % count);
    else if (event.key === "Enter") choose(at);
    else return;
    event.preventDefault();
  }

  const option = (index: number) => ({
    id: `${listId}-${index}`,
    role: "option",
    "aria-selected": index === at,
    onClick: () => choose(index),
    onPointerMove: () => setAt(index),
    className: `flex min-h-10 cursor-pointer items-center gap-3 rounded-lg px-3 py-1.5 text-sm pointer-coarse:min-h-11 ${index === at ? "bg-hover" : ""}`,
  });

  return (
    <dialog
      ref={dialog}
      aria-label={t("title")}
      onClose={onClose}
      onClick={(event) => event.target === dialog.current && onClose()}
      className="mx-auto mt-[12dvh] w-[min(36rem,calc(100vw-1.5rem))] overflow-hidden rounded-2xl border border-line bg-raised p-0 text-ink shadow-float backdrop:bg-black/40"
    >
      <label className="flex items-center gap-3 border-b border-line px-4">
        <Icon name="search" className="size-5 text-muted" />
        <input
          autoFocus
          role="combobox"
          aria-label={t("title")}
          aria-expanded="true"
          aria-controls={listId}
          aria-activedescendant={count > 0 ? `${listId}-${at}` : undefined}
          dir="auto"
          value={words}
          maxLength={200}
          placeholder={t("placeholder")}
          onChange={(event) => (setWords(event.target.value), setAt(0))}
          onKeyDown={onKeyDown}
          className="h-13 min-w-0 flex-1 bg-transparent outline-none placeholder:text-faint"
        />
      </label>
      <ul id={listId} role="listbox" aria-label={t("title")} tabIndex={-1} className="max-h-[50dvh] overflow-y-auto p-1.5">
        {commands.map((id, index) => {
          const shortcut = SHORTCUTS.find(({ command }) => command === id);
          return (
            <li key={id} {...option(index)}>
              <span className="flex-1">{t(`command.${id}`)}</span>
              {shortcut && <Keys shortcut={shortcut} />}
            </li>
          );
        })}
        {found.map((hit, index) => (
          <li key={hit.conversation_id} {...option(commands.length + index)}>
            <Icon name="file" className="size-4.5 text-muted" />
            <span dir="auto" className="min-w-0 flex-1 truncate">
              <Segments of={hit.title} />
              {hit.message_id !== null && <span className="ms-2 text-muted"><Segments of={hit.snippet} /></span>}
            </span>
          </li>
        ))}
      </ul>
      {count === 0 && <p role="status" className="px-4 pb-4 text-sm text-muted">{t("nothing")}</p>}
    </dialog>
  );
}
