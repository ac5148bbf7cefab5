/**
 * The page's words. English is in the first bundle, every other language is one chunk, fetched when it is wanted.
 * A text is a key of `locales/<language>/<namespace>.json`; docs/web.md says how a translator works.
 */

import i18next, { type ResourceLanguage } from "i18next";
import { initReactI18next } from "react-i18next";
import * as en from "../locales/en";
import { read, write } from "./storage";

/** Each in its own name, as a person who doesn't read the present language must find it. */
export const LANGUAGES = {
  en: "English",
  de: "Deutsch",
  es: "Español",
  fr: "Français",
  ja: "日本語",
  zh: "中文",
  ar: "العربية",
} as const;

export type Language = keyof typeof LANGUAGES;

const KEY = "triplane.language";
const RIGHT_TO_LEFT: ReadonlySet<string> = new Set(["ar"]);
export const NAMESPACES = ["app", "chat", "history", "palette", "settings", "admin"] as const;

const loaders: Record<Exclude<Language, "en">, () => Promise<ResourceLanguage>> = {
  de: () => import("../locales/de"),
  es: () => import("../locales/es"),
  fr: () => import("../locales/fr"),
  ja: () => import("../locales/ja"),
  zh: () => import("../locales/zh"),
  ar: () => import("../locales/ar"),
};

const isLanguage = (name: string | null | undefined): name is Language => name != null && Object.hasOwn(LANGUAGES, name);

/** The first of these (`de-CH` counts as `de`) that the page speaks; else English. */
export function firstSpoken(wanted: readonly string[]): Language {
  return wanted.map((tag) => tag.split("-")[0]?.toLowerCase()).find(isLanguage) ?? "en";
}

/** What the person chose here or on another device; null: as the browser has it. */
export function chosenLanguage(): Language | null {
  const stored = read(KEY);
  return isLanguage(stored) ? stored : null;
}

void i18next.use(initReactI18next).init({
  lng: "en",
  fallbackLng: "en",
  resources: { en },
  ns: NAMESPACES,
  defaultNS: "app",
  initAsync: false,
  interpolation: { escapeValue: false }, // React escapes
  react: { useSuspense: false, bindI18n: "languageChanged" },
});

async function show(language: Language): Promise<void> {
  if (language !== "en" && !i18next.hasResourceBundle(language, "app")) {
    try {
      const words = await loaders[language]();
      for (const namespace of NAMESPACES) i18next.addResourceBundle(language, namespace, words[namespace]);
    } catch {
      return; // Its chunk can't be had now: the page stays readable in the language that it has.
    }
  }
  await i18next.changeLanguage(language);
  document.documentElement.lang = language;
  document.documentElement.dir = RIGHT_TO_LEFT.has(language) ? "rtl" : "ltr";
}

export const showChosenLanguage = (): Promise<void> => show(chosenLanguage() ?? firstSpoken(navigator.languages));

/** Shows a language from now on; null goes back to the browser's. */
export function chooseLanguage(language: Language | null): Promise<void> {
  write(KEY, language);
  return showChosenLanguage();
}

/** Takes over what the person chose on another device. */
export function adoptLanguage(language: string | null): void {
  const wanted = isLanguage(language) ? language : null;
  if (wanted !== chosenLanguage()) void chooseLanguage(wanted);
}

export const isRightToLeft = (): boolean => document.documentElement.dir === "rtl";

/** For words outside of components. */
export const t = i18next.t;
