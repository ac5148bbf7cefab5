import { useTranslation } from "react-i18next";
import { navigate, useRoute } from "../../app/router";
import { showToast } from "../../ui/Toast";
import { type BulkChange, useBulkChange } from "./conversations";

const BACK = { archive: "unarchive", unarchive: "archive", delete: "restore" } as const;

/** Changes conversations, says what was done where that isn't seen, and offers the way back. */
export function useChange(): (change: BulkChange) => void {
  const { t } = useTranslation(["history", "app"]);
  const route = useRoute();
  const bulk = useBulkChange();
  return (change) => {
    const { action, ids } = change;
    const isShown = route.name === "conversation" && ids.includes(route.id);
    bulk.mutate(change, {
      onError: (error) => showToast({ text: t("app:failed", { reason: error.message }) }),
      onSuccess: () => {
        if (action !== "archive" && action !== "unarchive" && action !== "delete") return;
        if (isShown && action === "delete") navigate("/", "replace");
        const undo = () => bulk.mutate({ action: BACK[action], ids });
        showToast({ text: t(`done.${action}`, { count: ids.length }), action: { label: t("app:undo"), run: undo } });
      },
    });
  };
}
