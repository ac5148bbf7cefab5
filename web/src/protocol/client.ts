/** Calls to the server. Every failure comes out as one `Problem`, whatever broke. */

import type { ConversationSettings } from "./chat";
import type { Conversation, ErrorBody, Message, Model, Page, Turn, User } from "./wire";

export class Problem extends Error {
  /** `status` is 0 when no answer came: offline, refused, cut off. */
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly retryAfterS: number | null = null,
  ) {
    super(message);
    this.name = "Problem";
  }
}

export const unreachable = () => new Problem(0, "unreachable", "The server can't be reached.");

/** Reads a refusal. A body that isn't ours (a proxy's page) still gives a Problem with its status. */
export async function problemOf(response: Response): Promise<Problem> {
  let error: Partial<ErrorBody> = {};
  try {
    error = ((await response.json()) as { error?: Partial<ErrorBody> }).error ?? {};
  } catch {
    // Not JSON: the status alone has to do.
  }
  const message = error.message ?? `The server answered ${response.status}.`;
  const retryAfter = Number.parseFloat(response.headers.get("retry-after") ?? "");
  return new Problem(response.status, error.code ?? "unknown", message, Number.isFinite(retryAfter) ? retryAfter : null);
}

/** A body is sent as JSON; a file as the type that it has. */
async function send(
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal,
  headers: Record<string, string> = {},
): Promise<Response> {
  const init: RequestInit = { method, credentials: "same-origin", headers: { accept: "application/json", ...headers } };
  if (body !== undefined) {
    const type = body instanceof Blob ? body.type : "application/json";
    init.headers = { ...init.headers, "content-type": type };
    init.body = body instanceof Blob ? body : JSON.stringify(body);
  }
  if (signal) init.signal = signal;
  try {
    return await fetch(path, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw unreachable();
  }
}

export async function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const response = await send(method, path, body, signal);
  if (!response.ok) throw await problemOf(response);
  try {
    return response.status === 204 ? (undefined as T) : ((await response.json()) as T);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw unreachable();
  }
}

export const part = encodeURIComponent;

/** Who is signed in, or null. */
export async function findMe(signal?: AbortSignal): Promise<User | null> {
  try {
    return await call<User>("GET", "/v1/me", undefined, signal);
  } catch (error) {
    if (error instanceof Problem && error.status === 401) return null;
    throw error;
  }
}

export const signOut = () => call<unknown>("DELETE", "/v1/session");

export const listModels = (signal?: AbortSignal) => call<Page<Model>>("GET", "/v1/models", undefined, signal);

/** `temporary`: in no list, and gone a day after it was last used. */
export const createConversation = (begin: { settings?: ConversationSettings; temporary?: boolean } = {}) =>
  call<Conversation>("POST", "/v1/conversations", begin);

export const renameConversation = (id: string, title: string) =>
  call<Conversation>("PATCH", `/v1/conversations/${part(id)}`, { title });

export const deleteConversation = (id: string) => call<unknown>("DELETE", `/v1/conversations/${part(id)}`);

export const getConversation = (id: string, signal?: AbortSignal) =>
  call<Conversation>("GET", `/v1/conversations/${part(id)}`, undefined, signal);

/** Shows another branch: the newest leaf below this message. */
export const showBranch = (conversationId: string, messageId: string) =>
  call<Conversation>("POST", `/v1/conversations/${part(conversationId)}`, { active_leaf: messageId });

/** All messages of the tree from behind `seq`, page by page. */
export async function listMessages(conversationId: string, seq: number, signal?: AbortSignal): Promise<Message[]> {
  const messages: Message[] = [];
  let after = seq;
  for (;;) {
    const address = `/v1/conversations/${part(conversationId)}/messages?limit=1000&after=${after}`;
    const page = await call<Page<Message>>("GET", address, undefined, signal);
    messages.push(...page.data);
    const last = page.data.at(-1);
    if (!page.has_more || last === undefined) return messages;
    after = last.seq;
  }
}

/** The newest messages before a `seq`, or of all; oldest first. `has_more`: there are still older ones. */
export function listMessagesBefore(conversationId: string, seq: number | null, limit: number, signal?: AbortSignal): Promise<Page<Message>> {
  const before = seq ?? 2 ** 31 - 1;
  return call("GET", `/v1/conversations/${part(conversationId)}/messages?limit=${limit}&before=${before}`, undefined, signal);
}

export interface Ask {
  conversationId: string;
  model: string;
  text: string;
  requestId: string;
  /** The message that this one follows; left out: the end of what is shown. */
  parentId?: string | null | undefined;
}

/** Opens a turn and streams it. The same `requestId` again attaches to the same turn. */
export const openTurn = (ask: Ask, signal: AbortSignal) =>
  send(
    "POST",
    "/v1/chat/completions",
    {
      model: ask.model,
      conversation_id: ask.conversationId,
      request_id: ask.requestId,
      messages: [{ role: "user", content: ask.text }],
      stream: true,
      ...(ask.parentId === undefined ? {} : { parent_id: ask.parentId }),
    },
    signal,
  );

/** Goes on with a turn that ended early; streams the new text only. */
export const continueTurn = (turnId: string, signal: AbortSignal) =>
  send("POST", `/v1/turns/${part(turnId)}/continue`, { stream: true }, signal);

/** Streams another answer beside this one. The same `requestId` again attaches to the same turn. */
export const regenerateTurn = (turnId: string, model: string, requestId: string, signal: AbortSignal) =>
  send("POST", `/v1/turns/${part(turnId)}/regenerate`, { stream: true, model, request_id: requestId }, signal);

export const followTurn = (turnId: string, after: number, signal: AbortSignal) =>
  send("GET", `/v1/turns/${part(turnId)}/events?after=${after}`, undefined, signal);

export const stopTurn = (turnId: string) => call<unknown>("POST", `/v1/turns/${part(turnId)}/stop`);

export const getTurn = (turnId: string, signal?: AbortSignal) =>
  call<Turn>("GET", `/v1/turns/${part(turnId)}`, undefined, signal);

export const listRunningTurns = (signal?: AbortSignal) =>
  call<Page<Turn>>("GET", "/v1/turns?state=running&limit=100", undefined, signal);

/** What happens to this person's conversations, on whichever device, from behind an event that was seen. */
export const followActivity = (lastEventId: string | null, signal: AbortSignal) =>
  send("GET", "/v1/events", undefined, signal, lastEventId === null ? {} : { "last-event-id": lastEventId });

/** `crypto.randomUUID` exists only in a secure context, and people open this page by a LAN address too. */
export function newRequestId(): string {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
