/** The stream of what changes in a person's conversations: kept open, resumed from its place, never missing anything unsaid. */

import { Problem, problemOf, unreachable } from "../protocol/client";
import type { ActivityEvent } from "../protocol/wire";
import { parseActivity } from "./activity";
import { backoffMs, readEvents } from "./reading";
import type { SseEvent } from "./sse";

export interface ActivityConnection {
  open(lastEventId: string | null, signal: AbortSignal): Promise<Response>;
  /** Waits before the next try; may return early when the network comes back. */
  pause(milliseconds: number): Promise<void>;
}

export interface ActivityWatcher {
  onEvent(event: ActivityEvent): void;
  /** A project was made, changed or deleted. */
  onProjects?(): void;
  /** Something may have happened that no event will tell: what is shown is to be read anew. */
  onGap(): void;
  /** The server says no, and will say it again. */
  onRefused(problem: Problem): void;
}

const isRefusal = ({ status }: Problem): boolean => status >= 400 && status < 500 && status !== 429;

export class ActivityStream {
  readonly #connection: ActivityConnection;
  readonly #watcher: ActivityWatcher;
  /** Behind which event the next connection begins; null before the server has named a place. */
  #place: string | null = null;
  #isOpen = false;
  #hasGap = true;

  constructor(connection: ActivityConnection, watcher: ActivityWatcher) {
    this.#connection = connection;
    this.#watcher = watcher;
  }

  /** Whether a change would be told at once. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Follows until the signal ends it or the server refuses. Run again, it goes on from where it was. */
  async run(signal: AbortSignal): Promise<void> {
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        for await (const event of this.#connect(signal)) {
          attempt = 0;
          this.#take(event);
        }
      } catch (error) {
        if (signal.aborted) return;
        const problem = error instanceof Problem ? error : unreachable();
        if (isRefusal(problem)) return this.#watcher.onRefused(problem);
        // The server couldn't keep events either.
        if (problem.status === 503) this.#hasGap = true;
      }
      if (!signal.aborted) await this.#connection.pause(backoffMs(attempt));
    }
  }

  async *#connect(signal: AbortSignal): AsyncGenerator<SseEvent> {
    const response = await this.#connection.open(this.#place, signal);
    if (!response.ok) throw await problemOf(response);
    this.#isOpen = true;
    try {
      if (this.#hasGap || this.#place === null) this.#readAnew();
      yield* readEvents(response, signal);
    } finally {
      this.#isOpen = false;
    }
  }

  #take(sent: SseEvent): void {
    this.#place = sent.id;
    const activity = parseActivity(sent);
    if (activity?.type === "reset") this.#readAnew();
    else if (activity?.type === "project") this.#watcher.onProjects?.();
    else if (activity) this.#watcher.onEvent(activity);
  }

  #readAnew(): void {
    this.#hasGap = false;
    this.#watcher.onGap();
  }
}
