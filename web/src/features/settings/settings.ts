/** A person's settings, the same on each of their devices. They come with who one is, and are kept there. */

import { type MutationOptions, type QueryClient, useMutation, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { adoptLanguage } from "../../app/i18n";
import { adoptTheme } from "../../app/theme";
import { changeSettings, type Settings } from "../../protocol/account";
import type { User } from "../../protocol/wire";
import { ME, useMe } from "../session/session";

const CHANGE = ["change settings"] as const;

/** Undefined while it isn't known who is here. */
export const useSettings = (): Settings | undefined => useMe().data?.settings;

export const settingsOf = (client: QueryClient): Settings | undefined => client.getQueryData<User | null>(ME)?.settings;

/** Shown at once. Changes go to the server one after the other, and only the last one's answer is all of them. */
export function settingsChange(client: QueryClient): MutationOptions<Settings, Error, Partial<Settings>> {
  const keep = (change: Partial<Settings>) =>
    client.setQueryData<User | null>(ME, (me) => me && { ...me, settings: { ...me.settings, ...change } });
  const isLast = () => client.isMutating({ mutationKey: CHANGE }) === 1;
  return {
    mutationKey: CHANGE,
    scope: { id: CHANGE[0] },
    mutationFn: changeSettings,
    onMutate: async (change) => {
      // What is on its way may have been read before.
      await client.cancelQueries({ queryKey: ME });
      keep(change);
    },
    onSuccess: (settings) => isLast() && keep(settings),
    onError: () => isLast() && client.invalidateQueries({ queryKey: ME }),
  };
}

export const useChangeSettings = () => useMutation(settingsChange(useQueryClient()));

/** Shows the page as the person has it on their other devices. */
export function useAdoptedSettings(): void {
  const settings = useSettings();
  const { theme, language } = settings ?? {};
  useEffect(() => {
    if (theme !== undefined) adoptTheme(theme);
  }, [theme]);
  useEffect(() => {
    if (language !== undefined) adoptLanguage(language);
  }, [language]);
}
