/** The page's addresses: `/` for a new chat, `/c/{id}` for a conversation, `/share/{secret}` for one that is shared. */

import { useSyncExternalStore } from "react";

export type Route = { name: "new" } | { name: "conversation"; id: string } | { name: "shared"; secret: string };

const listeners = new Set<() => void>();

export function routeOf(pathname: string): Route {
  const shared = /^\/share\/([^/]+)\/?$/.exec(pathname);
  if (shared) return { name: "shared", secret: decodeURIComponent(shared[1]!) };
  const match = /^\/c\/([^/]+)\/?$/.exec(pathname);
  return match ? { name: "conversation", id: decodeURIComponent(match[1]!) } : { name: "new" };
}

export const pathOf = (conversationId: string): string => `/c/${encodeURIComponent(conversationId)}`;

export function navigate(path: string, how: "push" | "replace" = "push"): void {
  if (path === location.pathname) return;
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

export function useRoute(): Route {
  return routeOf(useSyncExternalStore(subscribe, () => location.pathname));
}
