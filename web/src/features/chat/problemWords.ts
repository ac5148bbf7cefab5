/** Problems in words that say what happened and what to do. */

import { t } from "../../app/i18n";
import type { Problem } from "../../protocol/client";

export function inSeconds(seconds: number): string {
  const whole = Math.max(1, Math.ceil(seconds));
  return whole < 90 ? t("chat:seconds", { count: whole }) : t("chat:minutes", { count: Math.ceil(whole / 60) });
}

/** `waitS`: the seconds that are left of the server's Retry-After. */
export function problemWords(problem: Problem, waitS: number): string {
  const when = waitS > 0 ? t("chat:problem.againIn", { time: inSeconds(waitS) }) : t("chat:problem.againNow");
  switch (problem.status) {
    case 0:
      return navigator.onLine
        ? t("chat:problem.unreachable")
        : t("chat:problem.offline");
    case 401:
      return t("chat:problem.signedOut");
    case 404:
      return problem.code === "model_not_found"
        ? t("chat:problem.noModel")
        : t("chat:problem.noConversation");
    case 429:
      return t("chat:problem.limit", { when });
    case 503:
      return t("chat:problem.busy", { when });
  }
  if (problem.code === "context_length_exceeded") return t("chat:problem.tooLong");
  if (problem.status >= 500) return t("chat:problem.server");
  return problem.message;
}
