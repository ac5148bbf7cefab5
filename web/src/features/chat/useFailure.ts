import { skipToken, useQuery } from "@tanstack/react-query";
import { getTurn } from "../../protocol/client";
import type { ErrorBody, Message } from "../../protocol/wire";

/** What went wrong with a stored answer; its turn knows. Null while that isn't known, and for any other answer. */
export function useFailure(message: Message | null): ErrorBody | null {
  const turnId = message?.status === "failed" ? message.turn_id : null;
  const { data } = useQuery({
    queryKey: ["turn", turnId],
    queryFn: turnId === null ? skipToken : ({ signal }) => getTurn(turnId, signal),
    staleTime: Number.POSITIVE_INFINITY,
  });
  return data?.error ?? null;
}
