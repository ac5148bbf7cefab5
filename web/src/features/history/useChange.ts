import { useTranslation } from "react-i18next";
import { navigate, useRoute } from "../../app/router";
import { showToast } from "../../ui/Toast";
import { type BulkChange, useBulkChange } from "./conversations";

const BACK = { archive: "unarchive", unarchive: "archive", delete: "restore" } as const;

/** Changes conversations, says what was done where that isn't seen, and offers the way back. */
export function useChange(): (change: BulkChange) => void {
  const { t } = useTranslation(["history", "app"]);
  const route = useRoute();
  // Callbacks of `mutate` are for the latest call only; each of these has something to say.
  const { mutateAsync } = useBulkChange();
  const onError = (error: Error) => showToast({ text: t("app:failed", { reason: error.message }) });
  return (change) => {
    const { action, ids } = change;
    const isShown = route.name === "conversation" && ids.includes(route.id);
    const onSuccess = () => {
      if (action !== "archive" && action !== "unarchive" && action !== "delete") return;
      if (isShown && action === "delete") navigate("/", "replace");
      const undo = () => void mutateAsync({ action: BACK[action], ids }).catch(onError);
      showToast({ text: t(`done.${action}`, { count: ids.length }), action: { label: t("app:undo"), run: undo } });
    };
    mutateAsync(change).then(onSuccess, onError);
  };
}
