/** A person's settings, the same on each of their devices. */

import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { adoptLanguage } from "../../app/i18n";
import { adoptTheme } from "../../app/theme";
import { changeSettings, getSettings, type Settings } from "../../protocol/account";

const KEY = ["settings"] as const;

export const useSettings = () => useQuery({ queryKey: KEY, queryFn: ({ signal }) => getSettings(signal), staleTime: 60_000 });

export function useChangeSettings() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (change: Partial<Settings>) => changeSettings(change),
    onMutate: (change) => client.setQueryData<Settings>(KEY, (before) => before && { ...before, ...change }),
    onSuccess: (settings) => client.setQueryData(KEY, settings),
    onError: () => client.invalidateQueries({ queryKey: KEY }),
  });
}

/** Shows the page as the person has it on their other devices. */
export function useAdoptedSettings(): void {
  const { data } = useSettings();
  useEffect(() => {
    if (!data) return;
    adoptTheme(data.theme);
    adoptLanguage(data.language);
  }, [data]);
}
