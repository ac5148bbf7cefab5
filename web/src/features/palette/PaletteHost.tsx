import { lazy, useEffect, useState } from "react";
import { runCommand, useCommands } from "../../app/commands";
import { exportPath } from "../../protocol/history";
import { download } from "../../ui/download";
import { Late, MissingAbove } from "../../ui/Late";
import { useConversations } from "../history/conversations";
import { useChange } from "../history/useChange";
import { commandOf, isMac } from "./shortcuts";

const Palette = lazy(() => import("./Palette"));
const HelpSheet = lazy(() => import("./HelpSheet"));

/** Listens for shortcuts, shows the palette and the sheet of keys, and offers what can be done to the open conversation. */
export function PaletteHost({ conversationId }: { conversationId: string | null }) {
  const [shown, setShown] = useState<"palette" | "help" | null>(null);
  useCommands({ palette: () => setShown("palette"), help: () => setShown("help") });
  useConversationCommands(conversationId);
  useShortcuts();
  const close = () => setShown(null);
  return (
    <Late key={shown} instead={<MissingAbove onClose={close} />}>
      {shown === "palette" && <Palette onClose={close} />}
      {shown === "help" && <HelpSheet onClose={close} />}
    </Late>
  );
}

function useConversationCommands(conversationId: string | null): void {
  const { data } = useConversations();
  const change = useChange();
  const ids = conversationId === null ? [] : [conversationId];
  const isPinned = data?.find(({ id }) => id === conversationId)?.pinned ?? false;
  useCommands(
    conversationId === null
      ? {}
      : {
          pin: () => change({ action: isPinned ? "unpin" : "pin", ids }),
          archive: () => change({ action: "archive", ids }),
          delete: () => change({ action: "delete", ids }),
          exportMarkdown: () => download(exportPath(conversationId, "markdown")),
          exportJson: () => download(exportPath(conversationId, "json")),
        },
  );
}

const isTyping = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || target.matches("input, textarea, select"));

function useShortcuts(): void {
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
      const command = commandOf(event, isMac(), isTyping(event.target));
      if (command !== null && runCommand(command)) event.preventDefault();
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, []);
}
