import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Settings } from "../../protocol/account";
import { Button } from "../../ui/Button";
import { useModels } from "../chat/models";
import { isMac } from "../palette/shortcuts";
import { Choices, Failure, Part } from "./parts";
import { useChangeSettings, useSettings } from "./settings";

const LONGEST = 4000;

export function Personal() {
  const settings = useSettings();
  return settings && <Form settings={settings} />;
}

function Form({ settings }: { settings: Settings }) {
  const { t } = useTranslation(["settings", "app"]);
  const change = useChangeSettings();
  const models = useModels();
  const [instructions, setInstructions] = useState(settings.instructions);
  const save = (event: FormEvent) => {
    event.preventDefault();
    change.mutate({ instructions });
  };
  return (
    <>
      <Part title={t("instructions.title")} hint={t("instructions.hint")}>
        <form onSubmit={save}>
          <textarea aria-label={t("instructions.title")} rows={7} maxLength={LONGEST} dir="auto" value={instructions} onChange={(event) => setInstructions(event.target.value)} className="field" />
          <div className="mt-3 flex items-center gap-3">
            <Button look="primary" type="submit" disabled={instructions === settings.instructions || change.isPending}>
              {t("app:save")}
            </Button>
            <span role="status" className="text-muted">
              {change.isSuccess && instructions === settings.instructions ? t("app:saved") : ""}
            </span>
          </div>
        </form>
      </Part>
      <Part title={t("model.title")} hint={t("model.hint")}>
        <select
          aria-label={t("model.title")}
          value={settings.default_model ?? ""}
          onChange={(event) => change.mutate({ default_model: event.target.value || null })}
          className="field max-w-sm"
        >
          <option value="">{t("model.last")}</option>
          {models.map(({ id, name }) => (
            <option key={id} value={id}>
              {name || id}
            </option>
          ))}
        </select>
      </Part>
      <Part title={t("send.title")} hint={t("send.hint")}>
        <Choices
          name="send"
          legend={t("send.title")}
          value={settings.send_with}
          options={[
            { value: "enter", label: t("send.enter") },
            { value: "mod_enter", label: t("send.modEnter", { key: isMac() ? "⌘" : "Ctrl" }) },
          ]}
          onChange={(send_with) => change.mutate({ send_with })}
        />
      </Part>
      <Failure error={change.error} />
    </>
  );
}
