import { navigate, useRoute } from "../../app/router";
import { Problem } from "../../protocol/client";
import type { Conversation } from "../../protocol/wire";
import { Button } from "../../ui/Button";
import { Dialog } from "../../ui/Dialog";
import { titleOf } from "./ConversationRow";
import { useDelete } from "./conversations";

export function DeleteDialog({ conversation, onClose }: { conversation: Conversation; onClose: () => void }) {
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
    <Dialog title="Delete this conversation?" onClose={onClose}>
      <p className="mt-2 text-sm text-muted">
        “<span className="text-ink">{titleOf(conversation)}</span>” and all its messages will be deleted. This can’t be undone.
      </p>
      {remove.error instanceof Problem && (
        <p role="alert" className="mt-3 text-sm text-danger-ink">
          It couldn’t be deleted: {remove.error.message}
        </p>
      )}
      <div className="mt-5 flex justify-end gap-2">
        <Button onClick={onClose}>Cancel</Button>
        <Button look="danger" onClick={confirm} disabled={remove.isPending}>
          Delete
        </Button>
      </div>
    </Dialog>
  );
}
