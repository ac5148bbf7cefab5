/** Which keys do what. `mod` is ⌘ on a Mac and Ctrl elsewhere. */

import type { CommandId } from "../../app/commands";

export interface Shortcut {
  command: CommandId;
  key: string;
  mod?: boolean;
  shift?: boolean;
}

export const SHORTCUTS: readonly Shortcut[] = [
  { command: "palette", key: "k", mod: true },
  { command: "newChat", key: "o", mod: true, shift: true },
  { command: "search", key: "f", mod: true, shift: true },
  { command: "toggleSidebar", key: "s", mod: true, shift: true },
  { command: "focusComposer", key: "Escape", shift: true },
  { command: "temporary", key: "y", mod: true, shift: true },
  { command: "chooseModel", key: "m", mod: true, shift: true },
  { command: "pin", key: "p", mod: true, shift: true },
  { command: "archive", key: "a", mod: true, shift: true },
  { command: "exportMarkdown", key: "e", mod: true, shift: true },
  { command: "delete", key: "Backspace", mod: true, shift: true },
  { command: "theme", key: "l", mod: true, shift: true },
  { command: "settings", key: ",", mod: true },
  { command: "help", key: "?" },
];

export interface Press {
  key: string;
  metaKey: boolean;
  ctrlKey: boolean;
  shiftKey: boolean;
  altKey: boolean;
}

/** What a press of keys asks for. Keys without `mod` mean their letters while one types. */
export function commandOf(press: Press, isMac: boolean, isTyping: boolean): CommandId | null {
  const mod = isMac ? press.metaKey : press.ctrlKey;
  const other = isMac ? press.ctrlKey : press.metaKey;
  if (other || press.altKey) return null;
  const found = SHORTCUTS.find((one) => {
    if (one.key.toLowerCase() !== press.key.toLowerCase() || (one.mod ?? false) !== mod) return false;
    // "?" is typed with Shift on some keyboards and without on others.
    return one.key === "?" || (one.shift ?? false) === press.shiftKey;
  });
  if (!found || (isTyping && !found.mod && !found.shift) || (isTyping && found.key === "?")) return null;
  return found.command;
}

const MAC_NAMES: Record<string, string> = { Backspace: "⌫", Escape: "esc" };
const NAMES: Record<string, string> = { Escape: "Esc" };

/** The keys one by one, as they stand on the keyboard. */
export function keysOf({ key, mod, shift }: Shortcut, isMac: boolean): string[] {
  const name = (isMac ? MAC_NAMES : NAMES)[key] ?? (key.length === 1 ? key.toUpperCase() : key);
  return [...(mod ? [isMac ? "⌘" : "Ctrl"] : []), ...(shift ? [isMac ? "⇧" : "Shift"] : []), name];
}

export const isMac = (): boolean => /Mac|iPhone|iPad/.test(navigator.userAgent);
