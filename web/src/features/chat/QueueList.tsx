import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Button, IconButton } from "../../ui/Button";
import { Icon } from "../../ui/Icon";
import { type Queued, unqueue, useQueue } from "./queue";
import { useLiveTurn } from "./useLiveTurn";

interface QueueListProps {
  conversationId: string;
  /** Nothing goes on that would send the next one by itself. */
  isWaiting: boolean;
  onSendNext: () => void;
  /** Gives a message back to the composer. */
  onEdit: (text: string) => void;
}

/** What will be sent when the answer has ended. */
export function QueueList({ conversationId, isWaiting, onSendNext, onEdit }: QueueListProps) {
  const { t } = useTranslation("chat");
  const sent = useLiveTurn(conversationId, (turn) => turn?.requestId ?? null);
  // What is on its way stands among the messages.
  const queue = useQueue(conversationId).filter(({ requestId }) => requestId !== sent);
  if (queue.length === 0) return null;
  return (
    <section aria-label={t("queue.title")} className="mb-2 rounded-2xl border border-line bg-raised/70 p-1.5 text-sm">
      <div className="flex min-h-8 items-center gap-2 ps-2.5 pe-1 text-xs text-muted">
        <span className="flex-1">{t(isWaiting ? "queue.waits" : "queue.next")}</span>
        {isWaiting && (
          <Button look="primary" className="h-7! px-2.5! text-xs!" onClick={onSendNext}>
            {t("queue.send")}
          </Button>
        )}
      </div>
      <ol className="max-h-40 overflow-y-auto">
        {queue.map((one) => (
          <Row key={one.requestId} one={one} onRemove={() => unqueue(conversationId, one.requestId)} onEdit={onEdit} />
        ))}
      </ol>
    </section>
  );
}

function Row({ one, onRemove, onEdit }: { one: Queued; onRemove: () => void; onEdit: (text: string) => void }) {
  const { t } = useTranslation("chat");
  const [isLong, setIsLong] = useState(false);
  return (
    <li className="flex items-start gap-1 rounded-lg ps-2.5">
      <Icon name="forth" className="mt-2 size-4 text-faint" />
      <button type="button" onClick={() => setIsLong(!isLong)} aria-expanded={isLong} className={`min-w-0 flex-1 py-1.5 text-start wrap-anywhere ${isLong ? "whitespace-pre-wrap" : "truncate"}`}>
        {one.text}
      </button>
      <IconButton
        icon="pencil"
        label={t("queue.edit")}
        className="size-8!"
        onClick={() => {
          onRemove();
          onEdit(one.text);
        }}
      />
      <IconButton icon="close" label={t("queue.remove")} className="size-8!" onClick={onRemove} />
    </li>
  );
}
