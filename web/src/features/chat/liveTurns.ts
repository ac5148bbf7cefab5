/**
 * The turns that are going on in this page, one per conversation at most. They belong to the page and not to a view:
 * looking at another conversation leaves them running. Where there are many, the page lets go of those that it doesn't
 * show; they go on without it, and it follows them when they are looked at again.
 *
 * Readers subscribe per conversation; new text reaches them once per animation frame, however fast tokens come.
 */

import { continueTurn, followTurn, newRequestId, openTurn, Problem, regenerateTurn, stopTurn } from "../../protocol/client";
import { mayPass, runTurn } from "../../stream/follow";
import { backoffMs, pauseUntilOnline } from "../../stream/reading";
import { emptyTurn, fromTheStart, type TurnState } from "../../stream/turn";
import { blank, type LiveTurn, type LiveTurnsHooks } from "./liveTurn";

/** A browser allows six connections to one server: one is for live updates, and stopping an answer needs one too. */
const MOST_STREAMS = 3;

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

  /** Asks, at the end of what is shown or, with a parent, in another branch. */
  send(conversationId: string, text: string, parentId?: string | null, requestId = newRequestId()): void {
    if (this.#running.has(conversationId)) return;
    this.#run({ ...blank(conversationId), key: requestId, requestId, kind: "ask", userText: text, parentId });
  }

  /** Has the question of a turn answered again; by the model that is chosen, or by another. */
  regenerate(conversationId: string, sourceTurnId: string, parentId: string | null, modelAsked: string | null = null): void {
    if (this.#running.has(conversationId)) return;
    const requestId = newRequestId();
    this.#run({ ...blank(conversationId), key: requestId, requestId, kind: "regenerate", sourceTurnId, parentId, modelAsked });
  }

  /** Goes on with an answer that ended early, where it stands. */
  continue(conversationId: string, sourceTurnId: string, messageId: string, model: string | null, storedText: string): void {
    if (this.#running.has(conversationId)) return;
    const state = { ...emptyTurn, messageId, model, baseText: storedText, storedText };
    this.#run({ ...blank(conversationId), key: this.keyOf(messageId), kind: "continue", sourceTurnId, state });
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
    void this.#sendStop(conversationId);
  }

  /** Tells the server; while it can't be reached or hasn't taken the turn in, for as long as the turn goes on here. */
  async #sendStop(conversationId: string): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const turn = this.#running.get(conversationId)?.turn;
      if (!turn?.isStopping) return;
      try {
        // The stream of a turn that waits for the engine hasn't named it yet.
        const turnId = turn.state.turnId ?? (await this.#hooks.findTurn(conversationId));
        if (turnId !== null) {
          await stopTurn(turnId);
          return;
        }
      } catch (error) {
        if (!(error instanceof Problem) || !mayPass(error)) return this.#change(conversationId, { isStopping: false });
      }
      await pauseUntilOnline(backoffMs(attempt));
    }
  }

  #run(turn: LiveTurn): void {
    const { conversationId } = turn;
    const abort = new AbortController();
    this.#running.set(conversationId, { turn, abort });
    this.#showNow(conversationId);
    this.#keepFew();
    void this.#toItsEnd(turn, abort.signal);
  }

  async #toItsEnd(turn: LiveTurn, signal: AbortSignal): Promise<void> {
    const { conversationId } = turn;
    try {
      const state = await runTurn(
        turn.state,
        {
          open: turn.kind === "follow" ? null : () => this.#open(turn, signal),
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
    const { conversationId, requestId, userText, parentId, kind, sourceTurnId } = turn;
    if (kind === "continue" && sourceTurnId !== null) return continueTurn(sourceTurnId, signal);
    const model = this.#running.get(conversationId)?.turn.modelAsked ?? (await this.#hooks.findModel(conversationId));
    this.#change(conversationId, { modelAsked: model });
    if (kind === "regenerate" && sourceTurnId !== null) return regenerateTurn(sourceTurnId, model, requestId, signal);
    return openTurn({ conversationId, model, text: userText ?? "", requestId, parentId }, signal);
  }

  #take(conversationId: string, state: TurnState): void {
    const running = this.#running.get(conversationId);
    if (!running) return;
    const isAccepted = running.turn.state.turnId === null && state.turnId !== null;
    this.#change(conversationId, { state });
    if (state.messageId !== null) this.#keys.set(state.messageId, running.turn.key);
    if (!isAccepted) return;
    this.#hooks.onAccepted(running.turn);
  }

  /** The oldest first; one that a person looks at, or that the server may not have yet, is kept. */
  #keepFew(): void {
    const streaming = [...this.#running.values()].map(({ turn }) => turn).filter(({ phase }) => phase !== "refused");
    const hidden = streaming.filter(
      ({ conversationId, phase, isStopping }) => phase === "streaming" && !isStopping && !this.#listeners.has(conversationId),
    );
    for (const turn of hidden.slice(0, Math.max(0, streaming.length - MOST_STREAMS))) {
      this.dismiss(turn.conversationId);
      this.#hooks.onLetGo(turn);
    }
  }

  async #fail(conversationId: string, problem: Problem): Promise<void> {
    const running = this.#running.get(conversationId);
    if (!running) return;
    // The first try had arrived: it runs already.
    if (running.turn.kind === "continue" && running.turn.state.turnId === null && problem.status === 409) {
      return this.#followSource(running.turn);
    }
    // Its log is gone, so the turn is over: the store has what was said.
    if (running.turn.state.turnId !== null && problem.status === 404) return this.#settle(conversationId);
    if (problem.status !== 0 && (await this.#hooks.onRefused(running.turn))) return this.dismiss(conversationId);
    this.#refuse(conversationId, problem);
  }

  #followSource(turn: LiveTurn): void {
    const state = { ...fromTheStart(turn.state), turnId: turn.sourceTurnId };
    this.#run({ ...turn, kind: "follow", state });
  }

  /** Puts the stored messages in the place of the live turn, as soon as the store can be asked. */
  async #settle(conversationId: string): Promise<void> {
    const running = this.#running.get(conversationId);
    if (!running) return;
    for (let attempt = 0; this.#running.get(conversationId) === running; attempt++) {
      try {
        await this.#hooks.onEnded(running.turn);
        break;
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        if (mayPass(error)) await pauseUntilOnline(backoffMs(attempt));
        else return this.#refuse(conversationId, error);
      }
    }
    if (this.#running.get(conversationId) !== running) return;
    this.dismiss(conversationId);
    this.#hooks.onSettled(running.turn);
  }

  #refuse(conversationId: string, problem: Problem): void {
    this.#change(conversationId, { phase: "refused", problem, isStopping: false });
    this.#showNow(conversationId);
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
