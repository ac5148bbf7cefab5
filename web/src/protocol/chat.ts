/** Calls that only a conversation's own page makes: its settings, a turn's details, links to share it. */

import { call, part } from "./client";
import type { Content, Conversation, Page, Role, Turn } from "./wire";

/** What a turn takes that says nothing else; an absent one leaves it to the model. */
export interface ConversationSettings {
  model?: string;
  temperature?: number;
  top_p?: number;
  max_tokens?: number;
  instructions?: string;
}

export interface TurnDetails extends Turn {
  created_at: number;
  usage: {
    prompt_tokens: number;
    completion_tokens: number;
    prompt_tokens_details?: { cached_tokens?: number } | null;
  } | null;
  /** US dollars; null where no price is known. */
  cost?: number | null;
  time_to_first_token_ms?: number | null;
  duration_ms?: number | null;
}

export interface Share {
  id: string;
  object: "share";
  conversation_id: string;
  title: string | null;
  url?: string | null;
  created_at: number;
  messages: number;
}

export interface SharedConversation {
  object: "shared_conversation";
  title: string | null;
  created_at: number;
  messages: { role: Role; content: Content; model: string | null; created_at: number }[];
}

export const getTurnDetails = (turnId: string, signal?: AbortSignal) =>
  call<TurnDetails>("GET", `/v1/turns/${part(turnId)}`, undefined, signal);

export const setConversationSettings = (id: string, settings: ConversationSettings) =>
  call<Conversation>("PATCH", `/v1/conversations/${part(id)}`, { settings });

/** A link to what the conversation shows now; what is said later isn't in it. */
export const share = (conversationId: string) => call<Share>("POST", `/v1/conversations/${part(conversationId)}/shares`, {});

export const listShares = (conversationId: string, signal?: AbortSignal) =>
  call<Page<Share>>("GET", `/v1/shares?conversation_id=${part(conversationId)}`, undefined, signal);

export const revokeShare = (id: string) => call<unknown>("DELETE", `/v1/shares/${part(id)}`);

/** Needs no sign-in. */
export const readShared = (secret: string, signal?: AbortSignal) =>
  call<SharedConversation>("GET", `/v1/shared/${part(secret)}`, undefined, signal);
