/** The page's two addresses: `/` for a new chat, `/c/{id}` for a conversation. */

import { useSyncExternalStore } from "react";

export type Route = { name: "new" } | { name: "conversation"; id: string };

const listeners = new Set<() => void>();

export function routeOf(pathname: string): Route {
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
