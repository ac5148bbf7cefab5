import { type DragEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import type { ListView, Project } from "../../protocol/history";
import { IconButton } from "../../ui/Button";
import { Icon } from "../../ui/Icon";
import { DRAGGED } from "../history/ConversationRow";
import { EVERYTHING } from "../history/conversations";
import { ProjectDialog } from "./ProjectDialog";
import { useProjects } from "./projects";

interface ProjectListProps {
  view: ListView;
  onShow: (view: ListView) => void;
  onDrop: (conversationId: string, projectId: string) => void;
}

/** The folders, and the archive beside them. Inside of one: its name, and the way back. */
export function ProjectList({ view, onShow, onDrop }: ProjectListProps) {
  const { t } = useTranslation(["history", "app"]);
  const projects = useProjects();
  const [edited, setEdited] = useState<Project | "new" | null>(null);
  const shown = projects.find(({ id }) => id === view.projectId);
  return (
    <section aria-label={t("projects")}>
      {view.archived || shown ? (
        <div className="flex items-center gap-1 pt-1">
          <IconButton icon="back" label={t("app:back")} onClick={() => onShow(EVERYTHING)} />
          <h2 className="min-w-0 flex-1 truncate text-sm font-medium">{shown ? shown.name : t("archived")}</h2>
          {shown && <IconButton icon="pencil" label={t("project.edit")} onClick={() => setEdited(shown)} />}
        </div>
      ) : (
        <>
          <div className="flex items-center justify-between ps-3">
            <h2 className="text-xs font-medium text-muted">{t("projects")}</h2>
            <IconButton icon="plus" label={t("project.new")} onClick={() => setEdited("new")} />
          </div>
          <ul>
            {projects.map((project) => (
              <ProjectRow
                key={project.id}
                project={project}
                onShow={() => onShow({ archived: false, projectId: project.id })}
                onDrop={(id) => onDrop(id, project.id)}
              />
            ))}
            <li>
              <button type="button" onClick={() => onShow({ archived: true, projectId: null })} className={ROW}>
                <Icon name="archive" className="size-4.5 text-muted" /> {t("archived")}
              </button>
            </li>
          </ul>
        </>
      )}
      {edited && (
        <ProjectDialog project={edited === "new" ? null : edited} onClose={() => setEdited(null)} onDeleted={() => onShow(EVERYTHING)} />
      )}
    </section>
  );
}

const ROW = "flex min-h-9 w-full items-center gap-2.5 rounded-lg px-3 text-start text-sm hover:bg-hover pointer-coarse:min-h-11";

function ProjectRow({ project, onShow, onDrop }: { project: Project; onShow: () => void; onDrop: (conversationId: string) => void }) {
  const [isOver, setIsOver] = useState(false);
  const onDragOver = (event: DragEvent) => {
    if (!event.dataTransfer.types.includes(DRAGGED)) return;
    event.preventDefault();
    setIsOver(true);
  };
  return (
    <li
      onDragOver={onDragOver}
      onDragLeave={() => setIsOver(false)}
      onDrop={(event) => {
        setIsOver(false);
        onDrop(event.dataTransfer.getData(DRAGGED));
      }}
    >
      <button type="button" onClick={onShow} className={`${ROW} ${isOver ? "bg-accent-soft" : ""}`}>
        <Icon name="folder" className="size-4.5 text-muted" />
        <span className="min-w-0 flex-1 truncate">{project.name}</span>
        <span className="text-xs text-muted tabular-nums">{project.conversations}</span>
      </button>
    </li>
  );
}
