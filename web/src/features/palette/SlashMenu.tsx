import { type AriaAttributes, type KeyboardEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { runCommand } from "../../app/commands";
import { matchSlash, type SlashCommand } from "./slash";

export interface Slash {
  /** What the message box says of the menu to whoever doesn't see it; nothing while there is none. */
  box: Pick<AriaAttributes, "aria-controls" | "aria-activedescendant" | "aria-autocomplete">;
  matches: readonly SlashCommand[];
  at: number;
  run: (command: SlashCommand) => void;
  /** Whether the press was for the menu. */
  onKey: (event: KeyboardEvent) => boolean;
}

const LIST = "slash-commands";
const idOf = (index: number): string => `${LIST}-${index}`;

/** The state of the menu above the message box; `clear` empties the box. */
export function useSlash(text: string, clear: () => void): Slash {
  const [chosen, setChosen] = useState({ text: "", at: 0 });
  const [dismissed, setDismissed] = useState("");
  const matches = dismissed === text ? [] : matchSlash(text);
  const at = chosen.text === text ? Math.min(chosen.at, matches.length - 1) : 0;

  function run({ command }: SlashCommand) {
    clear();
    // The box is empty first: a command may show something else.
    requestAnimationFrame(() => runCommand(command));
  }

  function onKey(event: KeyboardEvent): boolean {
    const current = matches[at];
    if (!current || event.nativeEvent.isComposing) return false;
    const step = { ArrowDown: 1, ArrowUp: matches.length - 1 }[event.key];
    if (step !== undefined) setChosen({ text, at: (at + step) % matches.length });
    else if (event.key === "Escape") setDismissed(text);
    else if (event.key === "Enter" || event.key === "Tab") run(current);
    else return false;
    event.preventDefault();
    return true;
  }

  const box = matches.length === 0 ? {} : { "aria-controls": LIST, "aria-activedescendant": idOf(at), "aria-autocomplete": "list" as const };
  return { box, matches, at, run, onKey };
}

export function SlashMenu({ slash: { matches, at, run } }: { slash: Slash }) {
  const { t } = useTranslation("palette");
  if (matches.length === 0) return null;
  return (
    <ul id={LIST} role="listbox" aria-label={t("slash")} className="absolute inset-x-0 bottom-full z-20 mb-2 max-h-72 overflow-y-auto rounded-2xl border border-line bg-raised p-1.5 shadow-float">
      {matches.map((match, index) => (
        <li
          key={match.name}
          id={idOf(index)}
          role="option"
          aria-selected={index === at}
          onPointerDown={(event) => (event.preventDefault(), run(match))}
          className={`flex min-h-9 cursor-pointer items-center gap-3 rounded-lg px-3 text-sm pointer-coarse:min-h-11 ${index === at ? "bg-hover" : "hover:bg-hover"}`}
        >
          <code dir="ltr" className="w-24 shrink-0 font-mono text-accent">/{match.name}</code>
          <span className="truncate text-muted">{t(`command.${match.command}`)}</span>
        </li>
      ))}
    </ul>
  );
}
