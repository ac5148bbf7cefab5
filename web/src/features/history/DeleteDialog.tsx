import { Trans, useTranslation } from "react-i18next";
import { navigate, useRoute } from "../../app/router";
import { Problem } from "../../protocol/client";
import type { Conversation } from "../../protocol/wire";
import { Button } from "../../ui/Button";
import { Dialog } from "../../ui/Dialog";
import { titleOf } from "./ConversationRow";
import { useDelete } from "./conversations";

export function DeleteDialog({ conversation, onClose }: { conversation: Conversation; onClose: () => void }) {
  const { t } = useTranslation(["history", "app"]);
  const route = useRoute();
  const remove = useDelete();
  const confirm = () =>
    remove.mutate(conversation.id, {
      onSuccess: () => {
        if (route.name === "conversation" && route.id === conversation.id) navigate("/", "replace");
        onClose();
      },
    });
  return (
    <Dialog title={t("confirmDelete")} onClose={onClose}>
      <p className="mt-2 text-sm text-muted">
        <Trans t={t} i18nKey="deleteWarning" values={{ title: titleOf(conversation) }} components={{ b: <span className="text-ink" /> }} />
      </p>
      {remove.error instanceof Problem && (
        <p role="alert" className="mt-3 text-sm text-danger-ink">
          {t("deleteFailed", { reason: remove.error.message })}
        </p>
      )}
      <div className="mt-5 flex justify-end gap-2">
        <Button onClick={onClose}>{t("app:cancel")}</Button>
        <Button look="danger" onClick={confirm} disabled={remove.isPending}>
          {t("app:delete")}
        </Button>
      </div>
    </Dialog>
  );
}
