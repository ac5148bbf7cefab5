import type { Problem } from "../../protocol/client";
import { dropFromDraft } from "./drafts";
import { unqueue } from "./queue";
import { RefusedNotice } from "./RefusedNotice";
import { useLiveTurn, useLiveTurns } from "./useLiveTurn";

interface RefusalProps {
  conversationId: string | null;
  problem: Problem | null;
  onRetryBeginning: () => void;
  onGiveBack: (text: string) => void;
}

export function Refusal({ conversationId, problem, onRetryBeginning, onGiveBack }: RefusalProps) {
  const liveTurns = useLiveTurns();
  const turn = useLiveTurn(conversationId, (live) => (live?.phase === "refused" ? live : null));
  if (conversationId === null) {
    return problem && <RefusedNotice problem={problem} onRetry={onRetryBeginning} onEdit={null} />;
  }
  if (!turn?.problem) return null;
  const giveBack = () => {
    liveTurns.dismiss(conversationId);
    unqueue(conversationId, turn.requestId);
    onGiveBack(turn.userText ?? "");
  };
  const retry = () => {
    dropFromDraft(conversationId, turn.userText ?? "");
    liveTurns.retry(conversationId);
  };
  const canEdit = turn.userText !== null && turn.state.turnId === null;
  if (turn.kind === "regenerate" || turn.kind === "continue") {
    return <RefusedNotice problem={turn.problem} onRetry={retry} onEdit={null} onCancel={() => liveTurns.dismiss(conversationId)} />;
  }
  return <RefusedNotice problem={turn.problem} onRetry={retry} onEdit={canEdit ? giveBack : null} />;
}
