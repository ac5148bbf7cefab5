import { useTranslation } from "react-i18next";
import { chooseLanguage, chosenLanguage, LANGUAGES, type Language } from "../../app/i18n";
import { setTheme, type Theme, useTheme } from "../../app/theme";
import { Choices, Part } from "./parts";
import { useChangeSettings } from "./settings";

const THEMES: readonly Theme[] = ["system", "light", "dark"];

export function Appearance() {
  const { t } = useTranslation("settings");
  const theme = useTheme();
  const change = useChangeSettings();
  const languages = Object.entries(LANGUAGES) as [Language, string][];
  return (
    <>
      <Part title={t("theme.title")} hint={t("theme.hint")}>
        <Choices
          name="theme"
          legend={t("theme.title")}
          value={theme}
          options={THEMES.map((value) => ({ value, label: t(`theme.${value}`) }))}
          onChange={(value) => {
            setTheme(value);
            change.mutate({ theme: value });
          }}
        />
      </Part>
      <Part title={t("language.title")}>
        <Choices
          name="language"
          legend={t("language.title")}
          value={chosenLanguage() ?? "browser"}
          options={[{ value: "browser", label: t("language.browser") }, ...languages.map(([value, label]) => ({ value, label, lang: value }))]}
          onChange={(value) => {
            const language = value === "browser" ? null : (value as Language);
            void chooseLanguage(language);
            change.mutate({ language });
          }}
        />
      </Part>
    </>
  );
}
