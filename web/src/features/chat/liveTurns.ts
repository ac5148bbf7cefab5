/**
 * The turns that are going on in this page, one per conversation at most. They belong to the page and not to a view:
 * looking at another conversation leaves them running.
 *
 * Readers subscribe per conversation; new text reaches them once per animation frame, however fast tokens come.
 */

import { followTurn, newRequestId, openTurn, Problem, stopTurn } from "../../protocol/client";
import { runTurn } from "../../stream/follow";
import { emptyTurn, type TurnState } from "../../stream/turn";

export type LivePhase = "sending" | "streaming" | "reconnecting" | "ended" | "refused";

export interface LiveTurn {
  /** Names the turn in the page from its first moment on, before the server has given ids. */
  key: string;
  conversationId: string;
  /** What the person sent; null when we only follow a turn that another page opened. */
  userText: string | null;
  requestId: string;
  /** The same at every try: a request id goes with one model. Null until it is known. */
  modelAsked: string | null;
  phase: LivePhase;
  isStopping: boolean;
  state: TurnState;
  problem: Problem | null;
}

export interface LiveTurnsHooks {
  /** The server has taken the turn in: its conversation has changed. */
  onAccepted(turn: LiveTurn): void;
  /** The turn is over; resolves when its messages have been read back from the store. */
  onEnded(turn: LiveTurn): Promise<void>;
  /** The server said no. Resolves to true when the store has the turn nevertheless, with how it failed. */
  onRefused(turn: LiveTurn): Promise<boolean>;
  /** The model that a new turn asks. */
  findModel(): Promise<string>;
  /** The turn that goes on in a conversation, when its stream hasn't named it yet. */
  findTurn(conversationId: string): Promise<string | null>;
}

interface Running {
  turn: LiveTurn;
  abort: AbortController;
}

export class LiveTurns {
  readonly #running = new Map<string, Running>();
  readonly #shown = new Map<string, LiveTurn>();
  readonly #listeners = new Map<string, Set<() => void>>();
  readonly #stale = new Set<string>();
  readonly #keys = new Map<string, string>();
  readonly #hooks: LiveTurnsHooks;
  #isFrameAsked = false;

  constructor(hooks: LiveTurnsHooks) {
    this.#hooks = hooks;
  }

  get(conversationId: string): LiveTurn | null {
    return this.#shown.get(conversationId) ?? null;
  }

  subscribe(conversationId: string, listener: () => void): () => void {
    const listeners = this.#listeners.get(conversationId) ?? new Set();
    this.#listeners.set(conversationId, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#listeners.delete(conversationId);
    };
  }

  /** The name of a message in the page: an answer that grew here keeps the one it had then, and so its place. */
  keyOf(messageId: string): string {
    return this.#keys.get(messageId) ?? messageId;
  }

  send(conversationId: string, text: string): void {
    if (this.#running.has(conversationId)) return;
    const requestId = newRequestId();
    this.#run({ ...blank(conversationId), key: requestId, requestId, userText: text });
  }

  /** Follows a turn that goes on without us, from its first event. */
  follow(conversationId: string, turnId: string, messageId: string, model: string | null, storedText: string): void {
    if (this.#running.has(conversationId)) return;
    const state = { ...emptyTurn, turnId, messageId, model, storedText };
    this.#run({ ...blank(conversationId), key: turnId, phase: "streaming", state });
  }

  /** Sends a refused turn once more, under the same request id: the server may have taken it in after all. */
  retry(conversationId: string): void {
    const running = this.#running.get(conversationId);
    if (running?.turn.phase !== "refused") return;
    this.#run({ ...running.turn, phase: "sending", problem: null, isStopping: false });
  }

  dismiss(conversationId: string): void {
    this.#running.get(conversationId)?.abort.abort();
    this.#running.delete(conversationId);
    this.#shown.delete(conversationId);
    this.#notify(conversationId);
  }

  stop(conversationId: string): void {
    const running = this.#running.get(conversationId);
    if (!running || running.turn.isStopping || running.turn.phase === "refused") return;
    this.#change(conversationId, { isStopping: true });
    this.#showNow(conversationId);
    void this.#sendStop(running.turn.state.turnId, conversationId);
  }

  async #sendStop(known: string | null, conversationId: string): Promise<void> {
    try {
      const turnId = known ?? (await this.#hooks.findTurn(conversationId));
      if (turnId !== null) await stopTurn(turnId); // else it is sent as soon as the stream names the turn
    } catch {
      this.#change(conversationId, { isStopping: false });
    }
  }

  #run(turn: LiveTurn): void {
    const { conversationId } = turn;
    const abort = new AbortController();
    this.#running.set(conversationId, { turn, abort });
    this.#showNow(conversationId);
    void this.#toItsEnd(turn, abort.signal);
  }

  async #toItsEnd(turn: LiveTurn, signal: AbortSignal): Promise<void> {
    const { conversationId } = turn;
    try {
      const state = await runTurn(
        turn.state,
        {
          open: turn.userText === null ? null : () => this.#open(turn, signal),
          resume: followTurn,
          pause: pauseUntilOnline,
        },
        {
          onState: (next) => this.#take(conversationId, next),
          onConnection: (status) =>
            this.#change(conversationId, { phase: status === "open" ? "streaming" : "reconnecting" }),
        },
        signal,
      );
      this.#change(conversationId, { state, phase: "ended" });
      this.#showNow(conversationId);
      await this.#settle(conversationId);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Problem)) throw error;
      await this.#fail(conversationId, error);
    }
  }

  async #open(turn: LiveTurn, signal: AbortSignal): Promise<Response> {
    const { conversationId, requestId, userText } = turn;
    const model = this.#running.get(conversationId)?.turn.modelAsked ?? (await this.#hooks.findModel());
    this.#change(conversationId, { modelAsked: model });
    return openTurn({ conversationId, model, text: userText ?? "", requestId }, signal);
  }

  #take(conversationId: string, state: TurnState): void {
    const running = this.#running.get(conversationId);
    if (!running) return;
    const isAccepted = running.turn.state.turnId === null && state.turnId !== null;
    this.#change(conversationId, { state });
    if (state.messageId !== null) this.#keys.set(state.messageId, running.turn.key);
    if (!isAccepted) return;
    this.#hooks.onAccepted(running.turn);
    if (running.turn.isStopping) void this.#sendStop(state.turnId, conversationId);
  }

  async #fail(conversationId: string, problem: Problem): Promise<void> {
    const running = this.#running.get(conversationId);
    if (!running) return;
    // Its log is gone, so the turn is over: the store has what was said.
    if (running.turn.state.turnId !== null && problem.status === 404) return this.#settle(conversationId);
    if (problem.status !== 0 && (await this.#hooks.onRefused(running.turn))) return this.dismiss(conversationId);
    this.#change(conversationId, { phase: "refused", problem, isStopping: false });
    this.#showNow(conversationId);
  }

  async #settle(conversationId: string): Promise<void> {
    const running = this.#running.get(conversationId);
    if (!running) return;
    try {
      await this.#hooks.onEnded(running.turn);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.#change(conversationId, { phase: "refused", problem: error });
      this.#showNow(conversationId);
      return;
    }
    if (this.#running.get(conversationId) === running) this.dismiss(conversationId);
  }

  #change(conversationId: string, change: Partial<LiveTurn>): void {
    const running = this.#running.get(conversationId);
    if (!running) return;
    running.turn = { ...running.turn, ...change };
    this.#stale.add(conversationId);
    if (this.#isFrameAsked) return;
    this.#isFrameAsked = true;
    // A hidden page gets no animation frames.
    if (document.hidden) setTimeout(() => this.#showAll(), 200);
    else requestAnimationFrame(() => this.#showAll());
  }

  #showAll(): void {
    this.#isFrameAsked = false;
    for (const conversationId of [...this.#stale]) this.#showNow(conversationId);
  }

  #showNow(conversationId: string): void {
    this.#stale.delete(conversationId);
    const running = this.#running.get(conversationId);
    if (running) this.#shown.set(conversationId, running.turn);
    this.#notify(conversationId);
  }

  #notify(conversationId: string): void {
    for (const listener of this.#listeners.get(conversationId) ?? []) listener();
  }
}

function blank(conversationId: string): LiveTurn {
  return {
    key: "",
    conversationId,
    userText: null,
    requestId: "",
    modelAsked: null,
    phase: "sending",
    isStopping: false,
    state: emptyTurn,
    problem: null,
  };
}

function pauseUntilOnline(milliseconds: number): Promise<void> {
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
