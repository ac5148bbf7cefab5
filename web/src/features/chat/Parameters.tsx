import { useId, useState } from "react";
import { useTranslation } from "react-i18next";
import type { ConversationSettings } from "../../protocol/chat";
import { Button, IconButton } from "../../ui/Button";
import { Popover } from "../../ui/Popover";
import type { ConversationSettingsHeld } from "./conversationSettings";

const RANGES = {
  temperature: { min: 0, max: 2, step: 0.1, usual: 0.7 },
  top_p: { min: 0.05, max: 1, step: 0.05, usual: 1 },
} as const;

/** How this conversation's answers are made. What isn't set is as the model has it. */
export function Parameters({ settings, change }: ConversationSettingsHeld) {
  const { t } = useTranslation("chat");
  const isChanged = (["temperature", "top_p", "max_tokens", "instructions"] as const).some((name) => settings[name] !== undefined);
  return (
    <Popover
      label={t("parameters.title")}
      button={(opener) => (
        <IconButton icon="sliders" label={t("parameters.title")} className={`size-8! ${isChanged ? "text-accent!" : ""}`} {...opener} />
      )}
    >
      {(close) => (
        <Fields
          settings={settings}
          onSave={(next) => {
            change(next);
            close();
          }}
        />
      )}
    </Popover>
  );
}

function Fields({ settings, onSave }: { settings: ConversationSettings; onSave: (settings: ConversationSettings) => void }) {
  const { t } = useTranslation("chat");
  const [edited, setEdited] = useState(settings);
  const instructions = useId();
  const most = useId();
  const set = <Name extends keyof ConversationSettings>(name: Name, value: ConversationSettings[Name] | undefined) => {
    const { [name]: _, ...others } = edited;
    setEdited(value === undefined ? others : { ...others, [name]: value });
  };
  const tokens = edited.max_tokens;
  return (
    <form
      className="w-84 max-w-[calc(100vw-1rem)] space-y-4 p-4 text-sm"
      onSubmit={(event) => {
        event.preventDefault();
        // React has it bubble through the portal, to the form of the message box.
        event.stopPropagation();
        onSave(edited);
      }}
    >
      <h2 className="font-semibold">{t("parameters.title")}</h2>
      <div>
        <label htmlFor={instructions} className="font-medium">{t("parameters.instructions")}</label>
        <textarea
          id={instructions}
          data-autofocus=""
          rows={3}
          maxLength={4000}
          value={edited.instructions ?? ""}
          placeholder={t("parameters.instructionsHint")}
          onChange={({ target }) => set("instructions", target.value === "" ? undefined : target.value)}
          className="mt-1.5 block w-full resize-y rounded-lg border border-line bg-canvas px-3 py-2 leading-relaxed placeholder:text-faint"
        />
      </div>
      <Slider name="temperature" value={edited.temperature} onChange={(value) => set("temperature", value)} />
      <Slider name="top_p" value={edited.top_p} onChange={(value) => set("top_p", value)} />
      <div className="flex items-center justify-between gap-3">
        <label htmlFor={most} className="font-medium">{t("parameters.max_tokens")}</label>
        <input
          id={most}
          type="number"
          min={1}
          max={1_000_000}
          value={tokens ?? ""}
          placeholder={t("parameters.usual")}
          onChange={({ target }) => set("max_tokens", target.value === "" ? undefined : target.valueAsNumber)}
          className="h-9 w-32 rounded-lg border border-line bg-canvas px-3 text-end tabular-nums placeholder:text-faint"
        />
      </div>
      <div className="flex justify-end gap-2">
        <Button onClick={() => onSave(settings.model === undefined ? {} : { model: settings.model })}>{t("parameters.reset")}</Button>
        <Button type="submit" look="primary">{t("parameters.save")}</Button>
      </div>
    </form>
  );
}

interface SliderProps {
  name: keyof typeof RANGES;
  value: number | undefined;
  onChange: (value: number) => void;
}

function Slider({ name, value, onChange }: SliderProps) {
  const { t, i18n } = useTranslation("chat");
  const id = useId();
  const { usual, ...range } = RANGES[name];
  return (
    <div>
      <div className="flex items-baseline justify-between gap-3">
        <label htmlFor={id} className="font-medium">{t(`parameters.${name}`)}</label>
        <output htmlFor={id} className="text-muted tabular-nums">
          {value === undefined ? t("parameters.usual") : value.toLocaleString(i18n.language)}
        </output>
      </div>
      <p className="text-xs text-muted">{t(`parameters.${name}Hint`)}</p>
      <input
        id={id}
        type="range"
        {...range}
        value={value ?? usual}
        onChange={({ target }) => onChange(target.valueAsNumber)}
        className="mt-1.5 w-full accent-(--accent)"
      />
    </div>
  );
}
