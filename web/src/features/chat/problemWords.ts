/** Problems in words that say what happened and what to do. */

import type { Problem } from "../../protocol/client";

export function inSeconds(seconds: number): string {
  const whole = Math.max(1, Math.ceil(seconds));
  if (whole < 90) return whole === 1 ? "1 second" : `${whole} seconds`;
  return `${Math.ceil(whole / 60)} minutes`;
}

/** `waitS`: the seconds that are left of the server's Retry-After. */
export function problemWords(problem: Problem, waitS: number): string {
  const when = waitS > 0 ? `Try again in ${inSeconds(waitS)}.` : "You can try again now.";
  switch (problem.status) {
    case 0:
      return navigator.onLine
        ? "The server can’t be reached. Your message is kept; try again in a moment."
        : "You’re offline. Your message is kept; try again when you’re back.";
    case 401:
      return "Your session has ended. Sign in again to go on.";
    case 404:
      return problem.code === "model_not_found"
        ? "This model isn’t there any more. Pick another one."
        : "This conversation doesn’t exist any more.";
    case 429:
      return `You’ve reached your limit for now. ${when}`;
    case 503:
      return `The server is busy right now. ${when}`;
  }
  if (problem.code === "context_length_exceeded") return "That’s longer than this model can read. Shorten it, then try again.";
  if (problem.status >= 500) return "Something went wrong on the server. Trying again may help.";
  return problem.message;
}
