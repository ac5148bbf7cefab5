/** One turn that goes on in this page, and what it tells the rest of the page. */

import type { Problem } from "../../protocol/client";
import { emptyTurn, type TurnState } from "../../stream/turn";

export type LivePhase = "sending" | "streaming" | "reconnecting" | "ended" | "refused";

export interface LiveTurn {
  /** Names the turn in the page from its first moment on, before the server has given ids. */
  key: string;
  conversationId: string;
  kind: "ask" | "regenerate" | "continue" | "follow";
  /** What the person sent; null when the question is there already. */
  userText: string | null;
  /** The message that the turn begins behind, where that isn't the end of what is shown. */
  parentId: string | null | undefined;
  /** The turn that is continued, or answered again. */
  sourceTurnId: string | null;
  requestId: string;
  /** The same at every try: a request id goes with one model. Null until it is known. */
  modelAsked: string | null;
  phase: LivePhase;
  isStopping: boolean;
  state: TurnState;
  problem: Problem | null;
  /** `Date.now()` of its first moment in this page. */
  beganMs: number;
}

export interface LiveTurnsHooks {
  /** The server has taken the turn in: its conversation has changed. */
  onAccepted(turn: LiveTurn): void;
  /** The turn is over; resolves when its messages have been read back from the store. */
  onEnded(turn: LiveTurn): Promise<void>;
  /** The server said no. Resolves to true when the store has the turn nevertheless, with how it failed. */
  onRefused(turn: LiveTurn): Promise<boolean>;
  /** The page follows it no more, though it goes on. */
  onLetGo(turn: LiveTurn): void;
  /** Nothing goes on in the conversation any more, and the store has what was said. */
  onSettled(turn: LiveTurn): void;
  /** The model that a new turn of this conversation asks. */
  findModel(conversationId: string): Promise<string>;
  /** The turn that goes on in a conversation, when its stream hasn't named it yet. */
  findTurn(conversationId: string): Promise<string | null>;
}

/** A turn of which nothing is known yet. */
export function blank(conversationId: string): LiveTurn {
  return {
    key: "",
    conversationId,
    kind: "follow",
    userText: null,
    parentId: undefined,
    sourceTurnId: null,
    requestId: "",
    modelAsked: null,
    phase: "sending",
    isStopping: false,
    state: emptyTurn,
    problem: null,
    beganMs: Date.now(),
  };
}
