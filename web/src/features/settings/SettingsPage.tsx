import type { ComponentType } from "react";
import { useTranslation } from "react-i18next";
import { isPlainClick } from "../../app/link";
import { navigate } from "../../app/router";
import { ApiKeys } from "./ApiKeys";
import { Appearance } from "./Appearance";
import { DataControls } from "./DataControls";
import { Notifications } from "./Notifications";
import { Personal } from "./Personal";
import { Sessions } from "./Sessions";
import { Shares } from "./Shares";
import { Usage } from "./Usage";

const SECTIONS = {
  appearance: Appearance,
  personal: Personal,
  notifications: Notifications,
  data: DataControls,
  shares: Shares,
  keys: ApiKeys,
  sessions: Sessions,
  usage: Usage,
} satisfies Record<string, ComponentType>;

type SectionName = keyof typeof SECTIONS;
const NAMES = Object.keys(SECTIONS) as SectionName[];

export default function SettingsPage({ section }: { section: string }) {
  const { t } = useTranslation("settings");
  const shown = NAMES.find((name) => name === section) ?? "appearance";
  const Section = SECTIONS[shown];
  return (
    <div tabIndex={0} role="region" aria-label={t("title")} className="min-h-0 flex-1 overflow-y-auto outline-offset-[-2px]">
      <div className="mx-auto w-full max-w-4xl px-4 pt-4 pb-16 md:px-6">
        <h1 className="text-2xl font-semibold tracking-tight">{t("title")}</h1>
        <div className="mt-5 md:flex md:gap-10">
          <nav aria-label={t("sections")} className="-mx-4 overflow-x-auto px-4 pb-4 md:mx-0 md:w-48 md:shrink-0 md:px-0">
            <ul className="flex gap-1 md:sticky md:top-0 md:flex-col">
              {NAMES.map((name) => (
                <li key={name}>
                  <a
                    href={`/settings/${name}`}
                    aria-current={name === shown ? "page" : undefined}
                    onClick={(event) => isPlainClick(event) && (event.preventDefault(), navigate(`/settings/${name}`))}
                    className={`flex min-h-10 items-center rounded-lg px-3 text-sm whitespace-nowrap pointer-coarse:min-h-11 ${name === shown ? "bg-hover font-medium" : "text-muted hover:bg-hover hover:text-ink"}`}
                  >
                    {t(`section.${name}`)}
                  </a>
                </li>
              ))}
            </ul>
          </nav>
          <div className="min-w-0 flex-1">
            <h2 className="sr-only">{t(`section.${shown}`)}</h2>
            <Section />
          </div>
        </div>
      </div>
    </div>
  );
}
