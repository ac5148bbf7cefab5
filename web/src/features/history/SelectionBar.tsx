import { useTranslation } from "react-i18next";
import { Button, IconButton } from "../../ui/Button";

interface SelectionBarProps {
  count: number;
  isArchive: boolean;
  onMove: () => void;
  onAction: (action: "archive" | "unarchive" | "delete") => void;
  onDone: () => void;
}

/** What can be done with everything that is selected. */
export function SelectionBar({ count, isArchive, onMove, onAction, onDone }: SelectionBarProps) {
  const { t } = useTranslation(["history", "app"]);
  const archive = isArchive ? "unarchive" : "archive";
  return (
    <div role="toolbar" aria-label={t("selection")} className="flex items-center gap-0.5 border-t border-line p-2 pb-[max(0.5rem,env(safe-area-inset-bottom))]">
      <span role="status" className="min-w-0 flex-1 truncate ps-2 text-sm">
        {t("selected", { count })}
      </span>
      <IconButton icon="folder" label={t("move")} disabled={count === 0} onClick={onMove} />
      <IconButton icon="archive" label={t(archive)} disabled={count === 0} onClick={() => onAction(archive)} />
      <IconButton icon="trash" label={t("app:delete")} disabled={count === 0} onClick={() => onAction("delete")} />
      <Button onClick={onDone}>{t("app:close")}</Button>
    </div>
  );
}
