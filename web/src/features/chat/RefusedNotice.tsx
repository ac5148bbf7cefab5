import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Problem } from "../../protocol/client";
import { Button } from "../../ui/Button";
import { Notice } from "../../ui/Notice";
import { problemWords } from "./problemWords";

interface RefusedNoticeProps {
  problem: Problem;
  onRetry: () => void;
  /** Gives the text back to the composer; null when there is none to give back. */
  onEdit: (() => void) | null;
  onCancel?: () => void;
}

export function RefusedNotice({ problem, onRetry, onEdit, onCancel }: RefusedNoticeProps) {
  const { t } = useTranslation();
  const waitS = useCountdown(problem);
  return (
    <Notice
      actions={
        <>
          {onCancel && <Button onClick={onCancel}>{t("cancel")}</Button>}
          {onEdit && <Button onClick={onEdit}>{t("edit")}</Button>}
          {problem.status === 401 ? (
            <Button look="primary" onClick={() => location.reload()}>
              {t("signIn")}
            </Button>
          ) : (
            <Button look="primary" onClick={onRetry}>
              {t("retry")}
            </Button>
          )}
        </>
      }
    >
      {problemWords(problem, waitS)}
    </Notice>
  );
}

function useCountdown(problem: Problem): number {
  const [left, setLeft] = useState(problem.retryAfterS ?? 0);
  useEffect(() => {
    const end = Date.now() + (problem.retryAfterS ?? 0) * 1000;
    const look = () => setLeft(Math.max(0, (end - Date.now()) / 1000));
    look();
    const timer = setInterval(look, 1000);
    return () => clearInterval(timer);
  }, [problem]);
  return left;
}
