/** The models that can be asked, and which one this person last chose. */

import { type QueryClient, queryOptions, useQuery } from "@tanstack/react-query";
import { read, write } from "../../app/storage";
import type { Settings } from "../../protocol/account";
import { listModels, Problem } from "../../protocol/client";
import type { Model } from "../../protocol/wire";
import { settingsOf, useSettings } from "../settings/settings";
import { type ConversationSettingsHeld, settingsKnown } from "./conversationSettings";

const KEY = "triplane.model";

export interface ModelChoice {
  models: readonly Model[];
  chosen: string | null;
  choose: (id: string) => void;
}

const modelsQuery = queryOptions({
  queryKey: ["models"],
  queryFn: ({ signal }) => listModels(signal),
  staleTime: 60_000,
});

const pick = (models: readonly Model[], wanted: string | null): string | null =>
  models.find((model) => model.id === wanted)?.id ?? models[0]?.id ?? null;

/** The model to ask, also when the list of models is still on its way. */
export async function findModel(client: QueryClient, conversationId: string): Promise<string> {
  const { data } = await client.ensureQueryData(modelsQuery);
  const found = pick(data, settingsKnown(client, conversationId)?.model ?? usualModel(settingsOf(client)));
  if (found === null) throw new Problem(503, "overloaded", "There is no model to ask.");
  return found;
}

/** What the person has set for new chats; else what was chosen last here. */
const usualModel = (settings: Settings | undefined): string | null => settings?.default_model ?? read(KEY);

export const useModels = (): readonly Model[] => useQuery(modelsQuery).data?.data ?? [];

/** A conversation keeps its model; a new one begins with the one that was chosen last. */
export function useModelChoice({ settings, change }: ConversationSettingsHeld): ModelChoice {
  const models = useModels();
  const usual = usualModel(useSettings());
  const chosen = pick(models, settings.model ?? usual);
  const choose = (id: string) => {
    write(KEY, id);
    change({ ...settings, model: id });
  };
  return { models, chosen, choose };
}
