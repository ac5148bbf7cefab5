import { type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { IconButton } from "../../ui/Button";
import { CopyButton } from "../../ui/CopyButton";
import { Popover } from "../../ui/Popover";
import { ModelList } from "./ModelList";
import { useModels } from "./models";
import { TurnDetails } from "./TurnDetails";

interface AnswerActionsProps {
  text: string;
  model: string | null;
  turnId: string | null;
  createdAt: number | undefined;
  isLast: boolean;
  /** Null while it can't be answered again; without a model, by the one that is chosen. */
  onAgain: ((model?: string) => void) | null;
  branches: ReactNode;
}

/** Quiet until wanted: always there under the last answer, elsewhere on hover, on focus and on touch. */
export function AnswerActions({ text, model, turnId, createdAt, isLast, onAgain, branches }: AnswerActionsProps) {
  const { t, i18n } = useTranslation("chat");
  const quiet = isLast ? "" : "quiet group-hover/answer:opacity-100";
  const time = createdAt === undefined ? null : new Date(createdAt * 1000);
  return (
    <div className={`mt-2 -ms-1.5 flex items-center gap-1 text-xs text-muted ${quiet}`}>
      {branches}
      {text !== "" && <CopyButton label={t("copyAnswer")} text={() => text} />}
      {onAgain && <Again model={model} onAgain={onAgain} />}
      {turnId !== null && <TurnDetails turnId={turnId} />}
      {model && <span className="ms-1 truncate">{model}</span>}
      {time && (
        <time dateTime={time.toISOString()} title={time.toLocaleString(i18n.language)} className="ms-1 whitespace-nowrap">
          {time.toLocaleTimeString(i18n.language, { hour: "2-digit", minute: "2-digit" })}
        </time>
      )}
    </div>
  );
}

function Again({ model, onAgain }: { model: string | null; onAgain: (model?: string) => void }) {
  const { t } = useTranslation("chat");
  const models = useModels();
  return (
    <span className="flex items-center">
      <IconButton icon="retry" label={t("answerAgain")} className="size-8!" onClick={() => onAgain()} />
      {models.length > 1 && (
        <Popover
          label={t("againWith")}
          button={(opener) => <IconButton icon="chevron" label={t("againWith")} className="-ms-1 h-8! w-6!" {...opener} />}
        >
          {(close) => (
            <ModelList
              models={models}
              chosen={model}
              label={t("againWith")}
              onChoose={(id) => {
                close();
                onAgain(id);
              }}
            />
          )}
        </Popover>
      )}
    </span>
  );
}
