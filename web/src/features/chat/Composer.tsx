import { type FormEvent, type KeyboardEvent, type ReactNode, type Ref, useImperativeHandle, useLayoutEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { SlashMenu, useSlash } from "../palette/SlashMenu";
import { Icon } from "../../ui/Icon";
import { joined, readDraft, writeDraft } from "./drafts";
import { useSending } from "./sending";

export interface ComposerHandle {
  focus(): void;
  /** Puts a text before what is being typed. */
  fill(text: string): void;
}

interface ComposerProps {
  ref?: Ref<ComposerHandle>;
  /** Whose draft this is; null for a new chat. */
  conversationId: string | null;
  isAnswering: boolean;
  isStopping: boolean;
  /** Another message can't go out yet, such as while a refused one waits. */
  isBlocked: boolean;
  onSend: (text: string) => void;
  /** Keeps a message until the answer has ended; false if there is no room. Null while there is nothing to wait for. */
  onQueue: ((text: string) => boolean) | null;
  onStop: () => void;
  /** What stands beside the send button: the model. */
  children?: ReactNode;
}

const TALLEST_PX = 240;

export function Composer({ ref, conversationId, isAnswering, isStopping, isBlocked, onSend, onQueue, onStop, children }: ComposerProps) {
  const { t } = useTranslation("chat");
  const [text, setText] = useState(() => readDraft(conversationId));
  const field = useRef<HTMLTextAreaElement>(null);
  const { isSend, enterKeyHint } = useSending();
  const hasText = text.trim() !== "";
  const canQueue = hasText && isAnswering && onQueue !== null;
  const canSend = hasText && !isAnswering && !isBlocked;

  function change(next: string) {
    setText(next);
    writeDraft(conversationId, next);
  }

  const slash = useSlash(text, () => change(""));

  useImperativeHandle(ref, () => ({ focus: () => field.current?.focus(), fill: (given) => change(joined(given, text)) }));

  useLayoutEffect(() => {
    const area = field.current;
    if (!area) return;
    area.style.height = "auto";
    area.style.height = `${Math.min(area.scrollHeight, TALLEST_PX)}px`;
  }, [text]);

  function submit(event?: FormEvent) {
    event?.preventDefault();
    const sent = text.trim();
    if (canQueue && onQueue(sent)) return change("");
    if (!canSend) return;
    change("");
    onSend(sent);
  }

  function onKeyDown(event: KeyboardEvent) {
    if (slash.onKey(event) || !isSend(event)) return;
    event.preventDefault();
    submit();
  }

  return (
    <form
      onSubmit={submit}
      className="relative rounded-3xl border border-line bg-raised shadow-rest transition-[border-color,box-shadow] focus-within:border-line-strong focus-within:shadow-float"
    >
      <SlashMenu slash={slash} />
      <label htmlFor="composer" className="sr-only">
        {t("message")}
      </label>
      <textarea
        id="composer"
        ref={field}
        rows={1}
        value={text}
        placeholder={t(isAnswering ? "queue.placeholder" : "placeholder")}
        dir="auto"
        autoComplete="off"
        enterKeyHint={enterKeyHint}
        onChange={(event) => change(event.target.value)}
        onKeyDown={onKeyDown}
        {...slash.box}
        className="block w-full resize-none bg-transparent px-5 pt-4 pb-1 leading-relaxed outline-none placeholder:text-faint"
      />
      <div className="flex items-center justify-between gap-2 p-2.5 ps-3">
        <div className="flex min-w-0 items-center gap-0.5">{children}</div>
        {canQueue && (
          <button type="submit" aria-label={t("queue.add")} title={t("queue.add")} className="ms-auto grid size-9 shrink-0 place-items-center rounded-full border border-line text-muted transition-colors hover:bg-hover hover:text-ink">
            <Icon name="send" />
          </button>
        )}
        {isAnswering ? (
          <RoundButton label={t(isStopping ? "stopping" : "stop")} onClick={onStop} disabled={isStopping}>
            <span className="size-3.5 rounded-[4px] bg-current" />
          </RoundButton>
        ) : (
          <RoundButton label={t("sendMessage")} type="submit" disabled={!canSend}>
            <Icon name="send" />
          </RoundButton>
        )}
      </div>
    </form>
  );
}

interface RoundButtonProps {
  label: string;
  type?: "button" | "submit";
  disabled: boolean;
  onClick?: () => void;
  children: ReactNode;
}

function RoundButton({ label, type = "button", children, ...rest }: RoundButtonProps) {
  return (
    <button
      type={type}
      aria-label={label}
      title={label}
      className="grid size-9 shrink-0 place-items-center rounded-full bg-accent text-on-accent transition-colors hover:bg-accent-strong disabled:bg-bubble disabled:text-faint"
      {...rest}
    >
      {children}
    </button>
  );
}
