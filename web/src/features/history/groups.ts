/** Conversations by when they were last used, in the reader's own days. */

import { t } from "../../app/i18n";
import type { Conversation } from "../../protocol/wire";

export interface Group {
  label: string;
  conversations: Conversation[];
}

function startOfDay(now: Date, daysAgo: number): number {
  return new Date(now.getFullYear(), now.getMonth(), now.getDate() - daysAgo).getTime() / 1000;
}

export function groupByTime(conversations: readonly Conversation[], now: Date): Group[] {
  const groups = [
    { label: t("history:today"), from: startOfDay(now, 0) },
    { label: t("history:yesterday"), from: startOfDay(now, 1) },
    { label: t("history:week"), from: startOfDay(now, 7) },
    { label: t("history:older"), from: Number.NEGATIVE_INFINITY },
  ].map((group) => ({ ...group, conversations: [] as Conversation[] }));
  const pinned = conversations.filter((one) => one.pinned);
  for (const conversation of conversations) {
    if (conversation.pinned) continue;
    groups.find((group) => conversation.updated_at >= group.from)?.conversations.push(conversation);
  }
  groups.unshift({ label: t("history:pinned"), from: 0, conversations: pinned });
  return groups.filter((group) => group.conversations.length > 0).map(({ label, conversations: found }) => ({ label, conversations: found }));
}
