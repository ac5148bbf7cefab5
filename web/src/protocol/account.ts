/** Calls about the person: settings, keys, sessions, use, and all of their data. */

import { call, part } from "./client";
import type { Share } from "./chat";
import type { Page } from "./wire";

export interface Settings {
  object: "settings";
  language: string | null;
  theme: "light" | "dark" | "system";
  instructions: string;
  default_model: string | null;
  send_with: "enter" | "mod_enter";
}

export interface ApiKey {
  id: string;
  name: string;
  prefix: string;
  created_at: number;
  last_used_at: number | null;
  revoked_at: number | null;
}

export interface Session {
  id: string;
  created_at: number;
  last_seen_at: number;
  user_agent: string | null;
  address: string | null;
  current: boolean;
}

export interface UsageLine {
  date: string;
  model: string;
  requests: number;
  input_tokens: number;
  cached_tokens: number;
  output_tokens: number;
  cost: number;
}

export interface ImportReport {
  conversations: number;
  messages: number;
  skipped: { title: string | null; reason: string }[];
  already: number;
}

export const changeSettings = (change: Partial<Settings>) => call<Settings>("PATCH", "/v1/me/settings", change);

export const listKeys = (signal?: AbortSignal) => call<Page<ApiKey>>("GET", "/v1/api_keys", undefined, signal);
/** The key itself is only in this answer. */
export const createKey = (name: string) => call<ApiKey & { key: string }>("POST", "/v1/api_keys", { name });
export const revokeKey = (id: string) => call<unknown>("DELETE", `/v1/api_keys/${part(id)}`);

export const listSessions = (signal?: AbortSignal) => call<Page<Session>>("GET", "/v1/sessions", undefined, signal);
export const endSession = (id: string) => call<unknown>("DELETE", `/v1/sessions/${part(id)}`);
export const endOtherSessions = () => call<unknown>("DELETE", "/v1/sessions");

/** `from` and `to` are UTC days, YYYY-MM-DD. */
export const readUsage = (from: string, to: string, signal?: AbortSignal) =>
  call<{ data: UsageLine[] }>("GET", `/v1/usage?by=day,model&from=${from}&to=${to}`, undefined, signal);

export const listAllShares = (signal?: AbortSignal) => call<Page<Share>>("GET", "/v1/shares", undefined, signal);

export const deleteEverything = () => call<unknown>("POST", "/v1/me/delete_data", { confirm: "delete everything" });

export function importFile(file: File): Promise<ImportReport> {
  // Browsers don't agree on what they take a file for.
  const type = file.name.endsWith(".zip") ? "application/zip" : "application/json";
  return call("POST", "/v1/import", new Blob([file], { type }));
}
