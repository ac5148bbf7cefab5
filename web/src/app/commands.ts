/** What one can do by the palette, a shortcut or a slash command. The part of the page that knows how offers it. */

import { useEffect, useRef } from "react";

export type CommandId =
  | "palette"
  | "newChat"
  | "temporary"
  | "search"
  | "toggleSidebar"
  | "focusComposer"
  | "chooseModel"
  | "pin"
  | "archive"
  | "exportMarkdown"
  | "exportJson"
  | "delete"
  | "theme"
  | "settings"
  | "usage"
  | "help"
  | "signOut";

const offered = new Map<CommandId, () => void>();

export function runCommand(id: CommandId): boolean {
  const run = offered.get(id);
  run?.();
  return run !== undefined;
}

export const isOffered = (id: CommandId): boolean => offered.has(id);

/** Offers commands for as long as the component is there. */
export function useCommands(commands: Partial<Record<CommandId, () => void>>): void {
  const latest = useRef(commands);
  useEffect(() => {
    latest.current = commands;
  });
  const ids = Object.keys(commands).sort().join();
  useEffect(() => {
    const mine = ids === "" ? [] : (ids.split(",") as CommandId[]);
    for (const id of mine) offered.set(id, () => latest.current[id]?.());
    return () => {
      for (const id of mine) offered.delete(id);
    };
  }, [ids]);
}
