import { useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { shownText } from "../../stream/turn";
import { sentencesFrom } from "./sentences";
import { useLiveTurn, useLiveTurns } from "./useLiveTurn";

/** A screen reader is told what was written since it was last told, this often at most. */
const EVERY_MS = 4000;
/** What it may still be reading. */
const KEPT = 4;

/** Says when an answer begins, its sentences as they are finished, and when it has ended; never a token. */
export function Announcer({ conversationId }: { conversationId: string | null }) {
  const phase = useLiveTurn(conversationId, (turn) => {
    if (turn === null) return "idle";
    if (turn.phase === "refused") return "refused";
    if (turn.phase === "ended") return "ended";
    return turn.isStopping ? "stopping" : "answering";
  });
  const { t } = useTranslation("chat");
  const liveTurns = useLiveTurns();
  const [said, setSaid] = useState<readonly { id: number; words: string }[]>([]);
  const count = useRef(0);
  const before = useRef(phase);

  useEffect(() => {
    const say = (words: string) => {
      if (words === "") return;
      count.current += 1;
      const id = count.current;
      setSaid((all) => [...all, { id, words }].slice(-KEPT));
    };
    const was = before.current;
    before.current = phase;
    const isOver = phase === "ended" || phase === "idle";
    if (isOver && was === "answering") say(t("announce.complete"));
    if (isOver && was === "stopping") say(t("announce.stopped"));
    if (phase !== "answering" || conversationId === null) return;
    say(t("announce.answering"));
    const begun = liveTurns.get(conversationId);
    let upTo = begun ? shownText(begun.state).length : 0;
    const tell = () => {
      const turn = liveTurns.get(conversationId);
      if (!turn) return;
      const next = sentencesFrom(shownText(turn.state), upTo, t("announce.code"), turn.phase === "ended");
      upTo = next.upTo;
      say(next.words);
    };
    const timer = setInterval(tell, EVERY_MS);
    return () => {
      clearInterval(timer);
      tell();
    };
  }, [phase, conversationId, liveTurns, t]);

  return (
    <div role="log" aria-live="polite" aria-relevant="additions" aria-label={t("announce.name")} className="sr-only">
      {said.map(({ id, words }) => (
        <p key={id}>{words}</p>
      ))}
    </div>
  );
}
