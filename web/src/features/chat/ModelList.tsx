import { useTranslation } from "react-i18next";
import type { Model } from "../../protocol/wire";
import { Icon } from "../../ui/Icon";
import { amount, number } from "./figures";

interface ModelListProps {
  models: readonly Model[];
  chosen: string | null;
  label: string;
  onChoose: (id: string) => void;
}

/** What can be asked: what each is for, what it costs, what it can. */
export function ModelList({ models, chosen, label, onChoose }: ModelListProps) {
  return (
    <div role="menu" aria-label={label} className="w-88 max-w-[calc(100vw-1rem)] p-1.5">
      {models.map((model) => (
        <button
          key={model.id}
          type="button"
          role="menuitemradio"
          aria-checked={model.id === chosen}
          data-autofocus={model.id === (chosen ?? models[0]?.id) ? "" : undefined}
          onClick={() => onChoose(model.id)}
          className="flex w-full items-start gap-2 rounded-xl px-3 py-2.5 text-start outline-offset-[-2px] transition-colors hover:bg-hover"
        >
          <span className="min-w-0 flex-1">
            <span className="block truncate text-sm font-medium">{model.name || model.id}</span>
            {model.description && <span className="mt-0.5 block text-[0.8125rem]/snug text-muted">{model.description}</span>}
            <Facts model={model} />
          </span>
          <Icon name="check" className={`mt-0.5 size-4.5 text-accent ${model.id === chosen ? "" : "invisible"}`} />
        </button>
      ))}
    </div>
  );
}

function Facts({ model }: { model: Model }) {
  const { t, i18n } = useTranslation("chat");
  const { price, context_length: context, abilities = [] } = model;
  const facts: string[] = [];
  if (price && price.input !== null && price.output !== null) {
    const isFree = price.input === 0 && price.output === 0;
    const prices = { input: amount(price.input, i18n.language), output: amount(price.output, i18n.language) };
    facts.push(isFree ? t("models.free") : t("models.price", prices));
  }
  if (context) facts.push(t("models.context", { tokens: number(context, i18n.language) }));
  for (const ability of abilities) {
    if (ability === "tools" || ability === "vision" || ability === "json_schema") facts.push(t(`models.ability.${ability}`));
  }
  if (facts.length === 0) return null;
  return <span className="mt-1 block text-xs/relaxed text-faint">{facts.join(" · ")}</span>;
}
