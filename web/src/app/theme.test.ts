import { beforeEach, expect, test, vi } from "vitest";
import { adoptTheme, setTheme } from "./theme";

const stored = new Map<string, string>();
const shown = () => document.documentElement.dataset.theme ?? "system";

beforeEach(() => {
  stored.clear();
  vi.stubGlobal("document", { documentElement: { dataset: {} } });
  vi.stubGlobal("localStorage", {
    getItem: (key: string) => stored.get(key) ?? null,
    setItem: (key: string, value: string) => void stored.set(key, value),
    removeItem: (key: string) => void stored.delete(key),
  });
});

test("a theme that was chosen here stays while the settings say nothing new", () => {
  setTheme("dark");
  adoptTheme("system"); // they were never told
  expect(shown()).toBe("dark");
});

test("what is chosen on another device is taken over, once", () => {
  adoptTheme("light");
  expect(shown()).toBe("light");
  setTheme("dark");
  adoptTheme("light");
  expect(shown()).toBe("dark");
  adoptTheme("system");
  expect(shown()).toBe("system");
});
