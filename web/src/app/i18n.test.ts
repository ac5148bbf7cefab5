import { expect, test } from "vitest";
import * as ar from "../locales/ar";
import * as de from "../locales/de";
import * as en from "../locales/en";
import * as es from "../locales/es";
import * as fr from "../locales/fr";
import * as ja from "../locales/ja";
import * as zh from "../locales/zh";
import { firstSpoken, LANGUAGES } from "./i18n";

const languages = { en, de, es, fr, ja, zh, ar };
const PLURAL = /_(zero|one|two|few|many|other)$/;

type Tree = { [key: string]: string | Tree };

function flat(tree: Tree, path = ""): [string, string][] {
  return Object.entries(tree).flatMap(([key, value]) =>
    typeof value === "string" ? [[path + key, value] as [string, string]] : flat(value, `${path}${key}.`),
  );
}

const words = (language: keyof typeof languages) => flat(languages[language] as unknown as Tree);
const bare = (key: string) => key.replace(PLURAL, "");
const unique = (keys: string[]) => [...new Set(keys)].sort();
const marks = (text: string) => unique([...text.matchAll(/\{\{[^}]+\}\}|<\/?\w+>/g)].map(([mark]) => mark));

test("every language that can be chosen has its words", () => {
  expect(Object.keys(languages).sort()).toEqual(Object.keys(LANGUAGES).sort());
});

test.each(Object.keys(LANGUAGES) as (keyof typeof languages)[])("%s has exactly the keys of English, in its own plural forms", (language) => {
  const forms = new Intl.PluralRules(language).resolvedOptions().pluralCategories;
  const expected = words("en").flatMap(([key]) => (PLURAL.test(key) ? forms.map((form) => `${bare(key)}_${form}`) : [key]));
  expect(unique(words(language).map(([key]) => key))).toEqual(unique(expected));
});

test.each(Object.keys(LANGUAGES) as (keyof typeof languages)[])("%s leaves no text empty and keeps the placeholders", (language) => {
  const english = new Map(words("en").map(([key, text]) => [bare(key), text]));
  for (const [key, text] of words(language)) {
    expect(text.trim(), key).not.toBe("");
    const wanted = marks(english.get(bare(key)) ?? "");
    // A form for exactly one or two may have the number in its word.
    const mayLeaveOut = /_(zero|one|two)$/.test(key) ? "{{count}}" : null;
    const has = marks(text);
    expect(has.includes("{{count}}") ? has : [...has, ...wanted.filter((mark) => mark === mayLeaveOut)].sort(), `${language} ${key}`).toEqual(wanted);
  }
});

test("a person is spoken to in the first of their languages that the page knows", () => {
  expect(firstSpoken(["pt-BR", "fr-CA", "en"])).toBe("fr");
  expect(firstSpoken(["zh-Hant-TW"])).toBe("zh");
  expect(firstSpoken(["pt"])).toBe("en");
  expect(firstSpoken([])).toBe("en");
});
