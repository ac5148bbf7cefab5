/** The models that can be asked, and which one this person last chose. */

import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { read, write } from "../../app/storage";
import { listModels } from "../../protocol/client";
import type { Model } from "../../protocol/wire";

const KEY = "triplane.model";

export interface ModelChoice {
  models: readonly Model[];
  chosen: string | null;
  choose: (id: string) => void;
}

export function useModelChoice(): ModelChoice {
  const { data } = useQuery({
    queryKey: ["models"],
    queryFn: ({ signal }) => listModels(signal),
    staleTime: 60_000,
    select: (page) => page.data,
  });
  const [wanted, setWanted] = useState(() => read(KEY));
  const models = data ?? [];
  const chosen = models.find((model) => model.id === wanted)?.id ?? models[0]?.id ?? null;
  const choose = (id: string) => {
    setWanted(id);
    write(KEY, id);
  };
  return { models, chosen, choose };
}
