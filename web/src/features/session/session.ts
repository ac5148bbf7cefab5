import { useMutation, useQuery } from "@tanstack/react-query";
import { findMe, signOut } from "../../protocol/client";
import { forgetUnsent } from "../chat/unsent";

export const ME = ["me"] as const;

/** `data` is null when nobody is signed in. */
export function useMe() {
  return useQuery({ queryKey: ME, queryFn: ({ signal }) => findMe(signal), staleTime: 60_000 });
}

/** Leaves by loading the page anew, so that nothing of the one who signed out stays in it, nor on the device. */
export function useSignOut() {
  const onSuccess = () => {
    forgetUnsent();
    location.assign("/");
  };
  return useMutation({ mutationFn: signOut, onSuccess });
}
