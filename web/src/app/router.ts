/** The page's addresses: `/` for a new chat, `/c/{id}` for a conversation, `/share/{secret}` for one that is shared, `/settings/{section}`. */

import { useSyncExternalStore } from "react";

export type Route = { name: "new" } | { name: "conversation"; id: string } | { name: "shared"; secret: string } | { name: "settings"; section: string };

/** The message that the address points at, as a search hit does; another object with each visit. */
export interface Target {
  messageId: string;
}

const listeners = new Set<() => void>();
let target: Target | null | undefined;

function targetNow(): Target | null {
  // An answer's footnotes have addresses too.
  if (target === undefined) target = /^#msg_\w+$/.test(location.hash) ? { messageId: location.hash.slice(1) } : null;
  return target;
}

function visit(): void {
  target = undefined;
  for (const listener of listeners) listener();
}

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
  visit();
}

function subscribe(listener: () => void): () => void {
  if (listeners.size === 0) window.addEventListener("popstate", visit);
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) window.removeEventListener("popstate", visit);
  };
}

export const useTarget = (): Target | null => useSyncExternalStore(subscribe, targetNow);

export function useRoute(): Route {
  return routeOf(useSyncExternalStore(subscribe, () => location.pathname));
}
