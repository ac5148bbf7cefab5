/** One turn as its events build it up. Pure: any prefix of a turn's events gives a state that can be shown. */

import type { Chunk, ErrorBody, ErrorEvent, FinishReason, MessageStatus } from "../protocol/wire";
import type { SseEvent } from "./sse";

export interface TurnState {
  turnId: string | null;
  messageId: string | null;
  model: string | null;
  /** The last position of the replay log that was taken in; resuming starts behind it. */
  position: number;
  text: string;
  /** What stood there before this stream began, when it brings only what comes behind it. */
  baseText: string;
  /** What was shown before we began to follow. The text shown never gets shorter than this. */
  storedText: string;
  finishReason: FinishReason | null;
  status: MessageStatus;
  error: ErrorBody | null;
  isEnded: boolean;
}

export type TurnEvent =
  | { kind: "chunk"; position: number | null; chunk: Chunk }
  | { kind: "error"; position: number | null; error: ErrorBody }
  | { kind: "done"; position: number | null };

export const emptyTurn: TurnState = {
  turnId: null,
  messageId: null,
  model: null,
  position: 0,
  text: "",
  baseText: "",
  storedText: "",
  finishReason: null,
  status: "streaming",
  error: null,
  isEnded: false,
};

/** Reads one SSE event; null for anything that isn't ours to understand. */
export function parseTurnEvent(event: SseEvent): TurnEvent | null {
  const number = event.id === null ? Number.NaN : Number(event.id);
  const position = Number.isSafeInteger(number) ? number : null;
  if (event.data === "[DONE]") return { kind: "done", position };
  let payload: unknown;
  try {
    payload = JSON.parse(event.data);
  } catch {
    return null;
  }
  if (typeof payload !== "object" || payload === null) return null;
  if ("error" in payload) return { kind: "error", position, error: (payload as ErrorEvent).error };
  if (!("choices" in payload) || !Array.isArray(payload.choices)) return null;
  return { kind: "chunk", position, chunk: payload as Chunk };
}

export function reduce(state: TurnState, event: TurnEvent): TurnState {
  // Several events may share a position (the last one's finish, usage and [DONE]); only earlier ones are repeats.
  if (state.isEnded || (event.position !== null && event.position < state.position)) return state;
  const position = event.position ?? state.position;
  switch (event.kind) {
    case "done":
      return { ...state, position, isEnded: true };
    case "error":
      return { ...state, position, status: "failed", error: event.error };
    case "chunk": {
      const { chunk } = event;
      const choice = chunk.choices[0];
      return {
        ...state,
        position,
        turnId: chunk.turn_id ?? state.turnId,
        messageId: chunk.message_id ?? state.messageId,
        model: chunk.model || state.model,
        text: state.text + (choice?.delta.content ?? ""),
        finishReason: choice?.finish_reason ?? state.finishReason,
        status: chunk.status ?? state.status,
      };
    }
  }
}

export function shownText({ baseText, text, storedText }: TurnState): string {
  const told = baseText + text;
  return told.length >= storedText.length ? told : storedText;
}

/** The same turn, to be told again from its first event; what is shown stays until more has been told. */
export const fromTheStart = (state: TurnState): TurnState => ({
  ...state,
  position: 0,
  text: "",
  baseText: "",
  storedText: shownText(state),
});
