/** Slash commands: what can be done from the message box by its name. */

import { type CommandId, isOffered } from "../../app/commands";

export interface SlashCommand {
  name: string;
  command: CommandId;
}

export const SLASH_COMMANDS: readonly SlashCommand[] = [
  { name: "new", command: "newChat" },
  { name: "temporary", command: "temporary" },
  { name: "model", command: "chooseModel" },
  { name: "search", command: "search" },
  { name: "pin", command: "pin" },
  { name: "archive", command: "archive" },
  { name: "export", command: "exportMarkdown" },
  { name: "delete", command: "delete" },
  { name: "theme", command: "theme" },
  { name: "settings", command: "settings" },
  { name: "usage", command: "usage" },
  { name: "help", command: "help" },
];

/** The commands that a text may become; none for a text that only begins with a slash, like a path. */
export function matchSlash(text: string, isPossible: (command: CommandId) => boolean = isOffered): readonly SlashCommand[] {
  const typed = /^\/([a-z]*)$/i.exec(text)?.[1]?.toLowerCase();
  if (typed === undefined) return [];
  return SLASH_COMMANDS.filter(({ name, command }) => name.startsWith(typed) && isPossible(command));
}
