import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { navigate } from "../../app/router";
import { deleteEverything, type ImportReport, importFile } from "../../protocol/account";
import { Button } from "../../ui/Button";
import { Dialog } from "../../ui/Dialog";
import { download } from "../../ui/download";
import { forgetUnsent } from "../chat/unsent";
import { Failure, Part } from "./parts";

export function DataControls() {
  const { t } = useTranslation("settings");
  const [isDeleting, setIsDeleting] = useState(false);
  return (
    <>
      <Part title={t("export.title")} hint={t("export.hint")}>
        <div className="flex flex-wrap gap-2">
          <Button onClick={() => download("/v1/export?format=markdown")}>{t("export.markdown")}</Button>
          <Button onClick={() => download("/v1/export?format=json")}>{t("export.json")}</Button>
        </div>
      </Part>
      <Import />
      <Part title={t("deleteAll.title")} hint={t("deleteAll.hint")}>
        <Button look="danger" onClick={() => setIsDeleting(true)}>
          {t("deleteAll.button")}
        </Button>
      </Part>
      {isDeleting && <DeleteDialog onClose={() => setIsDeleting(false)} />}
    </>
  );
}

function Import() {
  const { t } = useTranslation("settings");
  const client = useQueryClient();
  const field = useRef<HTMLInputElement>(null);
  const load = useMutation({ mutationFn: importFile, onSuccess: () => client.invalidateQueries() });
  return (
    <Part title={t("import.title")} hint={t("import.hint")}>
      <input
        ref={field}
        type="file"
        accept=".json,.zip,application/json,application/zip"
        aria-label={t("import.title")}
        className="sr-only"
        tabIndex={-1}
        onChange={(event) => {
          const file = event.target.files?.[0];
          if (file) load.mutate(file);
          event.target.value = "";
        }}
      />
      <Button onClick={() => field.current?.click()} disabled={load.isPending}>
        {t(load.isPending ? "import.busy" : "import.button")}
      </Button>
      <div role="status">{load.data && <Report report={load.data} />}</div>
      <Failure error={load.error} />
    </Part>
  );
}

function Report({ report: { conversations, messages, already, skipped } }: { report: ImportReport }) {
  const { t } = useTranslation("settings");
  return (
    <div className="mt-3 rounded-xl border border-line px-4 py-3">
      <p>
        {t("import.conversations", { count: conversations })}, {t("import.messages", { count: messages })}
      </p>
      {already > 0 && <p className="text-muted">{t("import.already", { count: already })}</p>}
      {skipped.length > 0 && (
        <ul className="mt-2 text-muted">
          {skipped.map(({ title, reason }, index) => (
            <li key={index}>
              {title ?? "…"}: {reason}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

function DeleteDialog({ onClose }: { onClose: () => void }) {
  const { t } = useTranslation(["settings", "app"]);
  const client = useQueryClient();
  const [typed, setTyped] = useState("");
  const wanted = t("deleteAll.phrase");
  const remove = useMutation({
    mutationFn: deleteEverything,
    onSuccess: async () => {
      forgetUnsent();
      onClose();
      navigate("/");
      await client.resetQueries();
    },
  });
  return (
    <Dialog title={t("deleteAll.question")} onClose={onClose}>
      <form
        className="mt-3 text-sm"
        onSubmit={(event) => {
          event.preventDefault();
          if (typed.trim() === wanted) remove.mutate();
        }}
      >
        <label>
          <span className="text-muted">{t("deleteAll.type", { phrase: wanted })}</span>
          <input autoFocus autoComplete="off" value={typed} onChange={(event) => setTyped(event.target.value)} className="field mt-2" />
        </label>
        <Failure error={remove.error} />
        <div className="mt-4 flex justify-end gap-2">
          <Button onClick={onClose}>{t("app:cancel")}</Button>
          <Button look="danger" type="submit" disabled={typed.trim() !== wanted || remove.isPending}>
            {t("deleteAll.button")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
