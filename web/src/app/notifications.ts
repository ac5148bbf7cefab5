/** Tells that an answer is there when nobody looks. Asked for only when a person turns it on. */

import { read, write } from "./storage";
import { t } from "./i18n";

const KEY = "triplane.notifications";
/** A short answer needs no bell. */
const LONG_ANSWER_MS = 5000;

export const canNotify = (): boolean => "Notification" in window && window.isSecureContext;

export const notificationsWanted = (): boolean => canNotify() && Notification.permission === "granted" && read(KEY) === "on";

/** Whether they are on now as wanted. */
export async function wantNotifications(isWanted: boolean): Promise<boolean> {
  const isGranted = isWanted && canNotify() && (await Notification.requestPermission()) === "granted";
  write(KEY, isGranted ? "on" : null);
  return isGranted;
}

/** For a hidden page only. `sinceMs`: when the answer began, as `Date.now()` tells. */
export function notifyOfAnswer(conversationId: string, title: string, sinceMs: number): void {
  if (!document.hidden || !notificationsWanted() || Date.now() - sinceMs < LONG_ANSWER_MS) return;
  const path = `/c/${encodeURIComponent(conversationId)}`;
  const options = { body: title, tag: conversationId, icon: "/icon-192.png", data: { path } };
  // A service worker's notification outlives the tab, and is the only kind on phones.
  void navigator.serviceWorker?.ready.then((worker) => worker.showNotification(t("answerReady"), options)).catch(() => undefined);
}
