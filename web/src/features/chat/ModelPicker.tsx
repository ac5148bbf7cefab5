import { useTranslation } from "react-i18next";
import { Icon } from "../../ui/Icon";
import type { ModelChoice } from "./models";

/** One model is just named; of several, one is chosen. */
export function ModelPicker({ models, chosen, choose }: ModelChoice) {
  const { t } = useTranslation("chat");
  if (chosen === null) return null;
  if (models.length === 1) return <span className="block truncate px-2 text-xs text-muted">{chosen}</span>;
  return (
    <label className="relative flex h-8 max-w-full items-center rounded-lg text-muted hover:bg-hover hover:text-ink">
      <span className="sr-only">{t("model")}</span>
      <select
        value={chosen}
        onChange={(event) => choose(event.target.value)}
        className="h-full field-sizing-content max-w-56 appearance-none truncate rounded-lg bg-transparent ps-2 pe-7 text-xs"
      >
        {models.map((model) => (
          <option key={model.id} value={model.id} className="bg-raised text-ink">
            {model.id}
          </option>
        ))}
      </select>
      <Icon name="chevron" className="pointer-events-none absolute end-1.5 size-4" />
    </label>
  );
}
