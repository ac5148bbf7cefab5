/** Calls of the list of conversations: search, projects, and what is done to several at once. */

import { call, part } from "./client";
import type { Conversation, Page, Role } from "./wire";

export interface Project {
  id: string;
  object: "project";
  name: string;
  instructions: string;
  conversations: number;
}

export interface Segment {
  text: string;
  hit: boolean;
}

export interface SearchHit {
  conversation_id: string;
  title: Segment[];
  /** Null: only the title has the words. */
  message_id: string | null;
  role: Role | null;
  snippet: Segment[];
  updated_at: number;
  archived: boolean;
}

/** Which conversations a list shows. */
export interface ListView {
  archived: boolean;
  projectId: string | null;
  /** Only what is pinned, of all projects. */
  pinned?: true;
}

export type BulkAction = "archive" | "unarchive" | "pin" | "unpin" | "delete" | "restore" | "move";
export type Format = "markdown" | "json";

export function listConversations(view: ListView, after: string | null, signal?: AbortSignal): Promise<Page<Conversation>> {
  const query = new URLSearchParams({ limit: view.pinned ? "100" : "40" });
  if (view.pinned) query.set("pinned", "true");
  if (view.archived) query.set("archived", "true");
  if (view.projectId !== null) query.set("project_id", view.projectId);
  if (after !== null) query.set("after", after);
  return call("GET", `/v1/conversations?${query}`, undefined, signal);
}

export const changeInBulk = (action: BulkAction, ids: readonly string[], projectId?: string | null) =>
  call<{ done: string[]; not_found: string[] }>("POST", "/v1/conversations/bulk", {
    action,
    ids,
    ...(projectId === undefined ? {} : { project_id: projectId }),
  });

export const search = (words: string, after: string | null, signal?: AbortSignal) =>
  call<{ data: SearchHit[]; next: string | null }>(
    "GET",
    `/v1/search?include_archived=true&limit=20&q=${part(words)}${after === null ? "" : `&after=${part(after)}`}`,
    undefined,
    signal,
  );

export const listProjects = (signal?: AbortSignal) => call<Page<Project>>("GET", "/v1/projects", undefined, signal);

export const createProject = (project: { name: string; instructions: string }) => call<Project>("POST", "/v1/projects", project);

export const changeProject = (id: string, change: { name: string; instructions: string }) =>
  call<Project>("PATCH", `/v1/projects/${part(id)}`, change);

export const deleteProject = (id: string) => call<unknown>("DELETE", `/v1/projects/${part(id)}`);

export const exportPath = (id: string, format: Format): string => `/v1/conversations/${part(id)}/export?format=${format}`;
