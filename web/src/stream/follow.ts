/** Brings one turn to its end over connections that may break: open, read, resume from the last position, again. */

import { Problem, problemOf, unreachable } from "../protocol/client";
import { backoffMs, readEvents } from "./reading";
import { fromTheStart, parseTurnEvent, reduce, type TurnState } from "./turn";

export interface TurnConnection {
  /** Sends the ask, or null when we only follow a turn that another page opened. */
  open: ((signal: AbortSignal) => Promise<Response>) | null;
  resume(turnId: string, after: number, signal: AbortSignal): Promise<Response>;
  /** Waits before the next try; may return early when the network comes back. */
  pause(milliseconds: number): Promise<void>;
}

export interface TurnWatcher {
  onState(state: TurnState): void;
  onConnection(status: "open" | "lost"): void;
}

/** A turn that the server never took in is given back to its writer; one that it knows is followed for ever. */
const OPEN_TRIES = 6;
const PASSING = [0, 429, 502, 503, 504];

export const mayPass = (problem: Problem): boolean => PASSING.includes(problem.status);

/** Runs until the turn has ended. Throws the Problem that a retry of ours can't cure. */
export async function runTurn(
  start: TurnState,
  connection: TurnConnection,
  watcher: TurnWatcher,
  signal: AbortSignal,
): Promise<TurnState> {
  let state = start;
  let attempt = 0;
  for (;;) {
    try {
      const response = await connect(state, connection, signal);
      if (!response.ok) throw await problemOf(response);
      watcher.onConnection("open");
      const before = state.position;
      for await (const sent of readEvents(response, signal)) {
        const event = parseTurnEvent(sent);
        if (event === null) continue;
        if (state.position === before && isBeyondGap(before, event.position)) {
          state = fromTheStart(state);
          break;
        }
        attempt = 0;
        state = reduce(state, event);
        watcher.onState(state);
        if (state.isEnded) return state;
      }
      if (state.finishReason !== null || state.error !== null) return { ...state, isEnded: true };
      if (state.position === 0 && before > 0) continue;
    } catch (error) {
      if (signal.aborted) throw error;
      const problem = error instanceof Problem ? error : unreachable();
      const isCurable = state.turnId === null ? problem.status === 0 && attempt + 1 < OPEN_TRIES : mayPass(problem);
      if (!isCurable) throw problem;
    }
    watcher.onConnection("lost");
    await connection.pause(backoffMs(attempt));
    signal.throwIfAborted();
    attempt += 1;
  }
}

/** Positions have no gaps: if the next one isn't the next, the log was lost and written anew, in other pieces. */
function isBeyondGap(before: number, position: number | null): boolean {
  return before > 0 && position !== null && position > before + 1;
}

function connect(state: TurnState, connection: TurnConnection, signal: AbortSignal): Promise<Response> {
  if (state.turnId !== null) return connection.resume(state.turnId, state.position, signal);
  if (connection.open === null) throw new Error("a turn that isn't ours to open must have an id");
  return connection.open(signal);
}
