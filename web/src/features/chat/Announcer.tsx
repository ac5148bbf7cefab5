import { useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useLiveTurn } from "./useLiveTurn";

/** Says to a screen reader when an answer begins and when it has ended: twice an answer, not at every token. */
export function Announcer({ conversationId }: { conversationId: string | null }) {
  const phase = useLiveTurn(conversationId, (turn) => {
    if (turn === null) return "idle";
    if (turn.phase === "refused") return "refused";
    if (turn.phase === "ended") return "ended";
    return turn.isStopping ? "stopping" : "answering";
  });
  const { t } = useTranslation("chat");
  const [words, setWords] = useState("");
  const before = useRef(phase);
  useEffect(() => {
    const was = before.current;
    before.current = phase;
    if (phase === "answering") setWords(t("announce.answering"));
    else if (was === "answering" && (phase === "ended" || phase === "idle")) setWords(t("announce.complete"));
    else if (was === "stopping" && (phase === "ended" || phase === "idle")) setWords(t("announce.stopped"));
  }, [phase, t]);
  return (
    <p role="status" aria-live="polite" className="sr-only">
      {words}
    </p>
  );
}
