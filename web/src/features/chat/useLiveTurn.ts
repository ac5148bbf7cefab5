import { createContext, useCallback, useContext, useSyncExternalStore } from "react";
import type { LiveTurn } from "./liveTurn";
import type { LiveTurns } from "./liveTurns";

export const LiveTurnsContext = createContext<LiveTurns | null>(null);

export function useLiveTurns(): LiveTurns {
  const liveTurns = useContext(LiveTurnsContext);
  if (liveTurns === null) throw new Error("LiveTurnsContext is missing");
  return liveTurns;
}

/** Reads one thing of a live turn, and renders again only when that thing changes. `pick` gives a primitive or a part. */
export function useLiveTurn<T>(conversationId: string | null, pick: (turn: LiveTurn | null) => T): T {
  const liveTurns = useLiveTurns();
  const subscribe = useCallback(
    (listener: () => void) =>
      conversationId === null ? () => undefined : liveTurns.subscribe(conversationId, listener),
    [liveTurns, conversationId],
  );
  return useSyncExternalStore(subscribe, () => pick(conversationId === null ? null : liveTurns.get(conversationId)));
}
