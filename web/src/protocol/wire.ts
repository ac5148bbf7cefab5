/** The wire as docs/api.md describes it: what the server sends and takes. Types only, and how to read a content. */

import type { Settings } from "./account";
import type { ConversationSettings } from "./chat";

export type Role = "system" | "developer" | "user" | "assistant" | "tool";
export type MessageStatus = "streaming" | "complete" | "incomplete" | "stopped" | "failed";
export type FinishReason = "stop" | "length" | "tool_calls" | "content_filter";

export interface User {
  id: string;
  object: "user";
  name: string;
  is_admin: boolean;
  settings: Settings;
}

export interface Model {
  id: string;
  object: "model";
  owned_by: string;
  context_length?: number;
  name?: string | null;
  description?: string | null;
  /** US dollars per million tokens; null where it isn't known. */
  price?: { input: number | null; cached: number | null; output: number | null } | null;
  abilities?: string[];
  max_output_tokens?: number | null;
}

export interface Conversation {
  id: string;
  object: "conversation";
  title: string | null;
  /** Unix seconds, like every time on this wire. */
  created_at: number;
  updated_at: number;
  /** The end of the path that is shown. */
  active_leaf: string | null;
  metadata: Record<string, string>;
  temporary?: boolean;
  pinned?: boolean;
  archived?: boolean;
  project_id?: string | null;
  settings?: ConversationSettings;
}

export type ContentPart = { type: "text"; text: string } | { type: "image_url"; image_url: { url: string } };
export type Content = string | ContentPart[] | null;

export interface Message {
  id: string;
  object: "conversation.message";
  seq: number;
  role: Role;
  content: Content;
  status: MessageStatus;
  created_at: number;
  parent_id: string | null;
  turn_id: string | null;
  model: string | null;
  finish_reason: FinishReason | null;
}

/** A turn as it stands. */
export interface Turn {
  id: string;
  object: "turn";
  conversation_id: string;
  message_id: string;
  model: string;
  status: MessageStatus;
  error: ErrorBody | null;
}

/** One event of `GET /v1/events`. */
export interface ActivityEvent {
  type: "conversation.created" | "conversation.updated" | "conversation.deleted" | "turn.started" | "turn.ended";
  conversation_id: string;
  turn_id?: string;
  title?: string | null;
  status?: MessageStatus;
  /** As a list shows it now; left out where that hasn't changed. */
  pinned?: boolean;
  archived?: boolean;
  project_id?: string | null;
}

export interface Page<T> {
  object: "list";
  data: T[];
  first_id?: string | null;
  last_id?: string | null;
  has_more?: boolean;
}

export interface ErrorBody {
  message: string;
  type: string;
  param: string | null;
  code: string | null;
}

/** One `chat.completion.chunk` of a turn; `choices` is empty in the usage chunk. */
export interface Chunk {
  id: string;
  object: "chat.completion.chunk";
  model: string;
  choices: {
    index: number;
    delta: { role?: Role; content?: string | null };
    finish_reason: FinishReason | null;
  }[];
  conversation_id?: string;
  turn_id?: string;
  message_id?: string;
  /** How the turn ended: in its last chunk. */
  status?: MessageStatus;
}

export interface ErrorEvent {
  error: ErrorBody;
}

/** The text of a content, its parts joined; images have none. */
export function textOf(content: Content): string {
  if (content === null) return "";
  if (typeof content === "string") return content;
  return content.map((part) => (part.type === "text" ? part.text : "")).join("");
}
