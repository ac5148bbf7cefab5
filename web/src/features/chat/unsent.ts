/** What a person has written and not sent, on this device. */

import { forget } from "../../app/storage";
import { DRAFTS } from "./drafts";
import { QUEUES } from "./queue";

/** Of one conversation, which is gone; or all of it, when the person or everything of theirs goes. */
export function forgetUnsent(conversationId = ""): void {
  for (const prefix of [DRAFTS, QUEUES]) forget(prefix + conversationId);
}
