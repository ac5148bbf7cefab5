import { useEffect, useState } from "react";
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
  const waitS = useCountdown(problem);
  return (
    <Notice
      actions={
        <>
          {onCancel && <Button onClick={onCancel}>Cancel</Button>}
          {onEdit && <Button onClick={onEdit}>Edit</Button>}
          {problem.status === 401 ? (
            <Button look="primary" onClick={() => location.reload()}>
              Sign in
            </Button>
          ) : (
            <Button look="primary" onClick={onRetry}>
              Retry
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
