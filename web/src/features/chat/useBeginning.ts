import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useRef, useState } from "react";
import { navigate, pathOf } from "../../app/router";
import type { ConversationSettings } from "../../protocol/chat";
import { createConversation, Problem } from "../../protocol/client";
import { applyToConversations } from "../history/conversations";
import { keepConversation } from "./conversationSettings";
import { dropFromDraft, returnToDraft } from "./drafts";
import { startEmpty } from "./messages";
import { useLiveTurns } from "./useLiveTurn";

/** What the conversation is to be. */
export interface Beginnings {
  settings?: ConversationSettings;
  temporary?: boolean;
}

export interface Beginning {
  isOpening: boolean;
  isStopping: boolean;
  problem: Problem | null;
  begin: (text: string, how: Beginnings) => Promise<void>;
  retry: () => void;
  /** The turn is stopped as soon as there is one. */
  stop: () => void;
}

/** The first message of a new chat: makes the conversation, sends, and goes to its address. */
export function useBeginning(): Beginning {
  const client = useQueryClient();
  const liveTurns = useLiveTurns();
  const [isOpening, setIsOpening] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [isStopping, setIsStopping] = useState(false);
  const text = useRef("");
  const last = useRef<Beginnings>({});
  const mustStop = useRef(false);

  const begin = useCallback(
    async (asked: string, how: Beginnings) => {
      text.current = asked;
      last.current = how;
      setIsOpening(true);
      setProblem(null);
      mustStop.current = false;
      try {
        const conversation = await createConversation(how);
        keepConversation(client, conversation);
        if (!how.temporary) applyToConversations(client, { type: "conversation.created", conversation_id: conversation.id });
        startEmpty(client, conversation.id);
        liveTurns.send(conversation.id, asked);
        if (mustStop.current) liveTurns.stop(conversation.id);
        if (location.pathname === "/") navigate(pathOf(conversation.id));
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        setProblem(error);
        returnToDraft(null, asked);
      } finally {
        setIsOpening(false);
        setIsStopping(false);
      }
    },
    [client, liveTurns],
  );
  const retry = useCallback(() => {
    dropFromDraft(null, text.current);
    void begin(text.current, last.current);
  }, [begin]);
  const stop = useCallback(() => {
    mustStop.current = true;
    setIsStopping(true);
  }, []);
  return { isOpening, isStopping, problem, begin, retry, stop };
}
