import { useTranslation } from "react-i18next";
import { Dialog } from "../../ui/Dialog";
import { Icon } from "../../ui/Icon";
import { useProjects } from "./projects";

export function MoveDialog({ onChoose, onClose }: { onChoose: (projectId: string | null) => void; onClose: () => void }) {
  const { t } = useTranslation("history");
  const projects = useProjects();
  const places = [{ id: null, name: t("project.none") }, ...projects];
  return (
    <Dialog title={t("moveTo")} onClose={onClose}>
      <ul className="mt-3">
        {places.map(({ id, name }) => (
          <li key={id ?? "none"}>
            <button
              type="button"
              onClick={() => (onChoose(id), onClose())}
              className="flex min-h-11 w-full items-center gap-2.5 rounded-lg px-2.5 text-start text-sm hover:bg-hover"
            >
              <Icon name={id === null ? "close" : "folder"} className="size-4.5 text-muted" />
              <span className="truncate">{name}</span>
            </button>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}
