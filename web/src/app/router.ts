/** The page's addresses: `/` for a new chat, `/c/{id}` for a conversation, `/share/{secret}` for one that is shared, `/settings/{section}`. */

import { useSyncExternalStore } from "react";

export type Route = { name: "new" } | { name: "conversation"; id: string } | { name: "shared"; secret: string } | { name: "settings"; section: string };

const listeners = new Set<() => void>();

export function routeOf(pathname: string): Route {
  const shared = /^\/share\/([^/]+)\/?$/.exec(pathname);
  if (shared) return { name: "shared", secret: decodeURIComponent(shared[1]!) };
  const settings = /^\/settings(?:\/([a-z]+))?\/?$/.exec(pathname);
  if (settings) return { name: "settings", section: settings[1] ?? "appearance" };
  const match = /^\/c\/([^/]+)\/?$/.exec(pathname);
  return match ? { name: "conversation", id: decodeURIComponent(match[1]!) } : { name: "new" };
}

export const pathOf = (conversationId: string): string => `/c/${encodeURIComponent(conversationId)}`;

export function navigate(path: string, how: "push" | "replace" = "push"): void {
  if (path === location.pathname && location.hash === "") return;
  if (how === "push") history.pushState(null, "", path);
  else history.replaceState(null, "", path);
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  window.addEventListener("popstate", listener);
  return () => {
    listeners.delete(listener);
    window.removeEventListener("popstate", listener);
  };
}

/** The message that the address points at, as a search hit does. */
export const useTarget = (): string => useSyncExternalStore(subscribe, () => location.hash.slice(1));

export function useRoute(): Route {
  return routeOf(useSyncExternalStore(subscribe, () => location.pathname));
}
