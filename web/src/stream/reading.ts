/** Reads a response of server-sent events as they come. A socket that has gone silent counts as broken. */

import { unreachable } from "../protocol/client";
import { createSseParser, type SseEvent } from "./sse";

/** The server sends a heartbeat far more often; a socket this silent is dead. */
const SILENCE_MS = 60_000;

export async function* readEvents(response: Response, signal: AbortSignal): AsyncGenerator<SseEvent> {
  if (response.body === null) throw unreachable();
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const parser = createSseParser();
  try {
    for (;;) {
      const { done, value } = await within(SILENCE_MS, reader.read());
      signal.throwIfAborted();
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
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

/** How long to wait before the next try; longer each time, up to eight seconds, and not the same for every page. */
export const backoffMs = (attempt: number): number => Math.min(8000, 300 * 2 ** Math.min(attempt, 5)) * (1 - Math.random() / 3);

/** Waits before the next try; not longer than until the network comes back. */
export function pauseUntilOnline(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    const go = () => {
      clearTimeout(timer);
      window.removeEventListener("online", go);
      resolve();
    };
    const timer = setTimeout(go, milliseconds);
    window.addEventListener("online", go);
  });
}
