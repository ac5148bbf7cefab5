/** Which press of a key sends what is written. */

import type { KeyboardEvent } from "react";
import type { Settings } from "../../protocol/account";
import { useMedia } from "../../ui/media";
import { useSettings } from "../settings/settings";

export interface EnterPress {
  key: string;
  shiftKey: boolean;
  metaKey: boolean;
  ctrlKey: boolean;
}

/** Ctrl-Enter or ⌘-Enter always; Enter alone unless it begins a line, as the person wants it or as on a phone. */
export function isSendPress({ key, shiftKey, metaKey, ctrlKey }: EnterPress, sendWith: Settings["send_with"], isTouch: boolean): boolean {
  if (key !== "Enter" || shiftKey) return false;
  return metaKey || ctrlKey || (sendWith === "enter" && !isTouch);
}

interface Sending {
  isSend: (event: KeyboardEvent) => boolean;
  /** What a keyboard on the screen shows. */
  enterKeyHint: "enter" | "send";
}

export function useSending(): Sending {
  const isTouch = useMedia("(pointer: coarse)");
  const sendWith = useSettings()?.send_with ?? "enter";
  return {
    // While an input method composes (Japanese, Chinese, Korean), Enter chooses a word.
    isSend: (event) => !event.nativeEvent.isComposing && event.keyCode !== 229 && isSendPress(event, sendWith, isTouch),
    enterKeyHint: isTouch || sendWith !== "enter" ? "enter" : "send",
  };
}
