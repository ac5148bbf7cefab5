/** Brings one turn to its end over connections that may break: open, read, resume from the last position, again. */

import { Problem, problemOf, unreachable } from "../protocol/client";
import { createSseParser } from "./sse";
import { parseTurnEvent, reduce, type TurnEvent, type TurnState } from "./turn";

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

const OPEN_TRIES = 3;
const RESUME_TRIES = 12;
/** The server sends a heartbeat far more often; a socket this silent is dead. */
const SILENCE_MS = 60_000;

export const backoffMs = (attempt: number): number => Math.min(8000, 300 * 2 ** attempt);

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
      for await (const event of readEvents(response, signal)) {
        attempt = 0;
        state = reduce(state, event);
        watcher.onState(state);
        if (state.isEnded) return state;
      }
      if (state.finishReason !== null || state.error !== null) return { ...state, isEnded: true };
    } catch (error) {
      if (signal.aborted) throw error;
      const problem = error instanceof Problem ? error : unreachable();
      const isCurable = problem.status === 0 || (state.turnId !== null && [429, 502, 503, 504].includes(problem.status));
      if (!isCurable || attempt + 1 >= (state.turnId === null ? OPEN_TRIES : RESUME_TRIES)) throw problem;
    }
    watcher.onConnection("lost");
    await connection.pause(backoffMs(attempt));
    signal.throwIfAborted();
    attempt += 1;
  }
}

function connect(state: TurnState, connection: TurnConnection, signal: AbortSignal): Promise<Response> {
  if (state.turnId !== null) return connection.resume(state.turnId, state.position, signal);
  if (connection.open === null) throw new Error("a turn that isn't ours to open must have an id");
  return connection.open(signal);
}

async function* readEvents(response: Response, signal: AbortSignal): AsyncGenerator<TurnEvent> {
  if (response.body === null) throw unreachable();
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const parser = createSseParser();
  try {
    for (;;) {
      const { done, value } = await within(SILENCE_MS, reader.read());
      signal.throwIfAborted();
      if (done) return;
      for (const event of parser.push(decoder.decode(value, { stream: true }))) {
        const parsed = parseTurnEvent(event);
        if (parsed !== null) yield parsed;
      }
    }
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}

async function within<T>(milliseconds: number, promise: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(unreachable()), milliseconds);
  });
  try {
    return await Promise.race([promise, silence]);
  } finally {
    clearTimeout(timer);
  }
}
