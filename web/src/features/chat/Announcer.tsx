import { useEffect, useRef, useState } from "react";
import { useLiveTurn } from "./useLiveTurn";

/** Says to a screen reader when an answer begins and when it has ended: twice an answer, not at every token. */
export function Announcer({ conversationId }: { conversationId: string | null }) {
  const phase = useLiveTurn(conversationId, (turn) => {
    if (turn === null) return "idle";
    if (turn.phase === "refused") return "refused";
    if (turn.phase === "ended") return "ended";
    return turn.isStopping ? "stopping" : "answering";
  });
  const [words, setWords] = useState("");
  const before = useRef(phase);
  useEffect(() => {
    const was = before.current;
    before.current = phase;
    if (phase === "answering") setWords("Triplane is answering.");
    else if (was === "answering" && (phase === "ended" || phase === "idle")) setWords("The answer is complete.");
    else if (was === "stopping" && (phase === "ended" || phase === "idle")) setWords("The answer was stopped.");
  }, [phase]);
  return (
    <p role="status" aria-live="polite" className="sr-only">
      {words}
    </p>
  );
}
