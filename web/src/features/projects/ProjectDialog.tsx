import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Project } from "../../protocol/history";
import { Button } from "../../ui/Button";
import { Dialog } from "../../ui/Dialog";
import { useDeleteProject, useSaveProject } from "./projects";

interface ProjectDialogProps {
  /** Null: a new one. */
  project: Project | null;
  onClose: () => void;
  onDeleted: () => void;
}

export function ProjectDialog({ project, onClose, onDeleted }: ProjectDialogProps) {
  const { t } = useTranslation(["history", "app"]);
  const save = useSaveProject();
  const remove = useDeleteProject();
  const [name, setName] = useState(project?.name ?? "");
  const [instructions, setInstructions] = useState(project?.instructions ?? "");
  const error = save.error ?? remove.error;

  function onSubmit(event: FormEvent) {
    event.preventDefault();
    save.mutate({ id: project?.id ?? null, name: name.trim(), instructions }, { onSuccess: onClose });
  }

  return (
    <Dialog title={t(project ? "project.edit" : "project.new")} onClose={onClose}>
      <form onSubmit={onSubmit} className="mt-4 space-y-4 text-sm">
        <label className="block">
          <span className="font-medium">{t("project.name")}</span>
          <input autoFocus required maxLength={100} value={name} onChange={(event) => setName(event.target.value)} className="field mt-1.5" />
        </label>
        <label className="block">
          <span className="font-medium">{t("project.instructions")}</span>
          <textarea rows={4} maxLength={4000} value={instructions} onChange={(event) => setInstructions(event.target.value)} className="field mt-1.5" />
          <span className="mt-1 block text-muted">{t("project.instructionsHint")}</span>
        </label>
        {error && (
          <p role="alert" className="text-danger-ink">
            {t("app:failed", { reason: error.message })}
          </p>
        )}
        <div className="flex flex-wrap justify-end gap-2">
          {project && (
            <Button className="me-auto text-danger-ink" onClick={() => remove.mutate(project.id, { onSuccess: () => (onClose(), onDeleted()) })}>
              {t("project.delete")}
            </Button>
          )}
          <Button onClick={onClose}>{t("app:cancel")}</Button>
          <Button look="primary" type="submit" disabled={name.trim() === "" || save.isPending}>
            {t("app:save")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
