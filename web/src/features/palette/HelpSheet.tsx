import { useTranslation } from "react-i18next";
import { Dialog } from "../../ui/Dialog";
import { isMac, keysOf, SHORTCUTS, type Shortcut } from "./shortcuts";

export function Keys({ shortcut }: { shortcut: Shortcut }) {
  return (
    <span dir="ltr" className="flex shrink-0 gap-1">
      {keysOf(shortcut, isMac()).map((key) => (
        <kbd key={key} className="grid h-6 min-w-6 place-items-center rounded-md border border-line bg-canvas px-1.5 font-sans text-xs text-muted">
          {key}
        </kbd>
      ))}
    </span>
  );
}

export default function HelpSheet({ onClose }: { onClose: () => void }) {
  const { t } = useTranslation("palette");
  return (
    <Dialog title={t("help")} onClose={onClose}>
      <dl tabIndex={0} aria-label={t("help")} className="mt-3 max-h-[60dvh] overflow-y-auto text-sm">
        {SHORTCUTS.map((shortcut) => (
          <div key={shortcut.command} className="flex min-h-9 items-center justify-between gap-4">
            <dt>{t(`command.${shortcut.command}`)}</dt>
            <dd>
              <Keys shortcut={shortcut} />
            </dd>
          </div>
        ))}
      </dl>
      <p className="mt-3 text-sm text-muted">{t("slashHint")}</p>
    </Dialog>
  );
}
