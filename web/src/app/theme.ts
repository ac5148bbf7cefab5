/** Light, dark, or as the system has it. The stylesheet follows `data-theme` on the root element. */

import { useSyncExternalStore } from "react";
import { read, write } from "./storage";

export type Theme = "system" | "light" | "dark";

const KEY = "triplane.theme";
/** What the person's settings said when they were last seen here. */
const TOLD = "triplane.theme.told";
const listeners = new Set<() => void>();

function current(): Theme {
  const stored = read(KEY);
  return stored === "light" || stored === "dark" ? stored : "system";
}

export function applyTheme(): void {
  const theme = current();
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export function setTheme(theme: Theme): void {
  write(KEY, theme === "system" ? null : theme);
  applyTheme();
  for (const listener of listeners) listener();
}

/** Takes over what the person chose on another device; what was chosen here stays while they say nothing new. */
export function adoptTheme(theme: Theme): void {
  if (theme === (read(TOLD) ?? "system")) return;
  write(TOLD, theme === "system" ? null : theme);
  if (theme !== current()) setTheme(theme);
}

export function useTheme(): Theme {
  return useSyncExternalStore((listener) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, current);
}
