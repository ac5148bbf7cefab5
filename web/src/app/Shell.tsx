/** The frame: the sidebar (a drawer on phones), the bar on top, and the chat. */

import { lazy, useCallback, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { ChatPage } from "../features/chat/ChatPage";
import { useConversation } from "../features/chat/conversationSettings";
import { titleOf } from "../features/history/ConversationRow";
import { useConversations } from "../features/history/conversations";
import { Sidebar } from "../features/history/Sidebar";
import { PaletteHost } from "../features/palette/PaletteHost";
import { useAdoptedSettings } from "../features/settings/settings";
import type { User } from "../protocol/wire";
import { IconButton } from "../ui/Button";
import { Late } from "../ui/Late";
import { useIsNarrow } from "../ui/media";
import { ToastPlace } from "../ui/Toast";
import { useCommands } from "./commands";
import { navigate, useRoute } from "./router";
import { read, write } from "./storage";

const SettingsPage = lazy(() => import("../features/settings/SettingsPage"));

const KEY = "triplane.sidebar";

export function Shell({ me }: { me: User }) {
  const { t } = useTranslation();
  const route = useRoute();
  const conversationId = route.name === "conversation" ? route.id : null;
  const title = useTitle(conversationId);
  const isNarrow = useIsNarrow();
  const [isPinned, setIsPinned] = useState(() => read(KEY) !== "closed");
  const [isDrawn, setIsDrawn] = useState(false);
  const isOpen = isNarrow ? isDrawn : isPinned;
  const opener = useRef<HTMLButtonElement>(null);

  function toggle(open: boolean) {
    if (isNarrow) setIsDrawn(open);
    else {
      setIsPinned(open);
      write(KEY, open ? null : "closed");
    }
    if (!open) requestAnimationFrame(() => opener.current?.focus());
  }

  const closeDrawer = useCallback(() => setIsDrawn(false), []);
  useCommands({
    newChat: () => navigate("/"),
    toggleSidebar: () => toggle(!isOpen),
    chooseModel: () => document.getElementById("model-button")?.click(),
    settings: () => navigate("/settings/appearance"),
    usage: () => navigate("/settings/usage"),
    focusComposer: () => document.getElementById("composer")?.focus(),
  });
  useAdoptedSettings();
  useDrawerEscape(isNarrow && isDrawn, () => toggle(false));

  return (
    <div className="flex h-dvh overflow-hidden" data-drawer={isNarrow && isDrawn ? "open" : undefined}>
      <a href={route.name === "settings" ? "#content" : "#composer"} className="sr-only z-50 rounded-lg bg-accent px-4 py-2 text-on-accent focus:not-sr-only focus:fixed focus:top-3 focus:start-3">
        {t(route.name === "settings" ? "skipToContent" : "skip")}
      </a>
      {isNarrow && isDrawn && <div className="fixed inset-0 z-30 bg-black/40" onClick={() => toggle(false)} aria-hidden="true" />}
      <aside
        aria-label={t("sidebar")}
        inert={!isOpen}
        className={`z-40 h-full shrink-0 overflow-hidden border-line transition-[width,translate] duration-200 max-md:fixed max-md:inset-y-0 max-md:start-0 max-md:w-72 max-md:shadow-float ${
          isOpen ? "border-e md:w-68" : "max-md:-translate-x-full max-md:rtl:translate-x-full max-md:shadow-none md:w-0"
        }`}
      >
        <div className="h-full w-72 md:w-68">
          <Sidebar me={me} closeLabel={t("closeSidebar")} onOpen={() => toggle(true)} onClose={() => toggle(false)} onChosen={closeDrawer} />
        </div>
      </aside>
      <div className="flex min-w-0 flex-1 flex-col" inert={isNarrow && isDrawn}>
        <header className="flex h-14 shrink-0 items-center gap-1 px-2">
          {(!isOpen || isNarrow) && (
            <>
              <IconButton ref={opener} icon="sidebar" label={t("openSidebar")} aria-expanded={isOpen} onClick={() => toggle(true)} />
              <IconButton icon="compose" label={t("newChat")} onClick={() => navigate("/")} />
            </>
          )}
          <p className="min-w-0 flex-1 truncate px-2 text-sm font-medium text-muted">{title}</p>
          <div id="chat-actions" className="flex items-center gap-1" />
        </header>
        <main id="content" className="flex min-h-0 flex-1 flex-col">
          {route.name === "settings" ? (
            <Late meanwhile={<div aria-busy="true" className="h-full" />}>
              <SettingsPage section={route.section} />
            </Late>
          ) : (
            <ChatPage key={conversationId ?? "new"} conversationId={conversationId} />
          )}
        </main>
      </div>
      <ToastPlace />
      <PaletteHost conversationId={conversationId} />
    </div>
  );
}

/** The conversation's title, which is the page's too. */
function useTitle(conversationId: string | null): string {
  const { data: listed } = useConversations();
  const { data: alone } = useConversation(conversationId);
  const conversation = listed?.find((one) => one.id === conversationId) ?? alone;
  const title = conversationId === null || !conversation ? "" : titleOf(conversation);
  useEffect(() => {
    document.title = title === "" ? "Triplane" : `${title} · Triplane`;
  }, [title]);
  return title;
}

function useDrawerEscape(isActive: boolean, onEscape: () => void): void {
  useEffect(() => {
    if (!isActive) return;
    const onKeyDown = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !event.defaultPrevented && !document.querySelector("dialog[open]")) onEscape();
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  });
}
