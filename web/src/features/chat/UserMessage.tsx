import { type KeyboardEvent, memo, type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";
import { Button, IconButton } from "../../ui/Button";
import { CopyButton } from "../../ui/CopyButton";
import { useSending } from "./sending";

interface UserMessageProps {
  text: string;
  /** Asks this instead, in a branch of its own; null while that can't be done. */
  onEdit: ((text: string) => void) | null;
  branches?: ReactNode;
  isNew?: boolean;
}

export const UserMessage = memo(function UserMessage({ text, onEdit, branches, isNew = false }: UserMessageProps) {
  const { t } = useTranslation(["chat", "app"]);
  const [isEditing, setIsEditing] = useState(false);
  if (isEditing && onEdit) return <Editor text={text} onDone={() => setIsEditing(false)} onSend={onEdit} />;
  return (
    <article className={`group/question flex flex-col items-end ${isNew ? "animate-arrive" : ""}`}>
      <h2 className="sr-only">{t("youSaid")}</h2>
      <div dir="auto" className="max-w-[85%] rounded-3xl rounded-ee-lg bg-bubble px-4 py-2.5 leading-relaxed wrap-anywhere whitespace-pre-wrap">
        {text}
      </div>
      <div className="-mb-4 flex h-8 items-center">
        <CopyButton label={t("copyMessage")} text={() => text} className="quiet group-hover/question:opacity-100" />
        {onEdit && (
          <IconButton
            icon="pencil"
            label={t("editMessage")}
            className="quiet size-8! group-hover/question:opacity-100"
            onClick={() => setIsEditing(true)}
          />
        )}
        {branches}
      </div>
    </article>
  );
});

interface EditorProps {
  text: string;
  onDone: () => void;
  onSend: (text: string) => void;
}

function Editor({ text, onDone, onSend }: EditorProps) {
  const { t } = useTranslation(["chat", "app"]);
  const [edited, setEdited] = useState(text);
  const { isSend, enterKeyHint } = useSending();
  const wanted = edited.trim();
  const canSend = wanted !== "" && wanted !== text;

  function send() {
    if (!canSend) return;
    onDone();
    onSend(wanted);
  }

  function onKeyDown(event: KeyboardEvent) {
    if (isSend(event)) {
      event.preventDefault();
      send();
    } else if (event.key === "Escape" && !event.nativeEvent.isComposing) {
      event.preventDefault();
      onDone();
    }
  }

  return (
    <div className="rounded-3xl border border-line bg-bubble p-3 transition-[border-color] focus-within:border-accent">
      <textarea
        autoFocus
        aria-label={t("editMessage")}
        value={edited}
        rows={Math.min(10, edited.split("\n").length)}
        onFocus={(event) => event.target.setSelectionRange(text.length, text.length)}
        onChange={(event) => setEdited(event.target.value)}
        onKeyDown={onKeyDown}
        enterKeyHint={enterKeyHint}
        className="field-sizing-content block max-h-60 w-full resize-none bg-transparent px-2 py-1 leading-relaxed outline-none"
      />
      <div className="mt-2 flex justify-end gap-2">
        <Button onClick={onDone}>{t("app:cancel")}</Button>
        <Button look="primary" onClick={send} disabled={!canSend}>
          {t("app:send")}
        </Button>
      </div>
    </div>
  );
}
