import { useTranslation } from "react-i18next";
import { Icon } from "../../ui/Icon";
import { Popover } from "../../ui/Popover";
import { ModelList } from "./ModelList";
import type { ModelChoice } from "./models";

/** The model that answers, and the way to another. */
export function ModelPicker({ models, chosen, choose }: ModelChoice) {
  const { t } = useTranslation("chat");
  if (chosen === null) return null;
  const model = models.find(({ id }) => id === chosen);
  const name = model?.name || chosen;
  return (
    <Popover
      label={t("models.choose")}
      button={(opener) => (
        <button
          type="button"
          id="model-button"
          aria-label={t("models.button", { model: name })}
          {...opener}
          className="flex h-8 min-w-0 items-center gap-1 rounded-lg px-2 text-xs text-muted transition-colors hover:bg-hover hover:text-ink aria-expanded:bg-hover"
        >
          <span className="truncate">{name}</span>
          <Icon name="chevron" className="size-4" />
        </button>
      )}
    >
      {(close) => (
        <ModelList
          models={models}
          chosen={chosen}
          label={t("model")}
          onChoose={(id) => {
            choose(id);
            close();
          }}
        />
      )}
    </Popover>
  );
}
