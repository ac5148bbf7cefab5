import { expect, test } from "vitest";
import { isSendPress } from "./sending";

const press = (more = {}) => ({ key: "Enter", shiftKey: false, metaKey: false, ctrlKey: false, ...more });

test("Enter sends, unless the person wants it to begin a line, as on a phone", () => {
  expect(isSendPress(press(), "enter", false)).toBe(true);
  expect(isSendPress(press(), "mod_enter", false)).toBe(false);
  expect(isSendPress(press(), "enter", true)).toBe(false);
});

test("Ctrl-Enter and ⌘-Enter send, Shift-Enter and other keys never do", () => {
  for (const mod of [{ ctrlKey: true }, { metaKey: true }]) expect(isSendPress(press(mod), "mod_enter", true)).toBe(true);
  expect(isSendPress(press({ shiftKey: true, ctrlKey: true }), "mod_enter", false)).toBe(false);
  expect(isSendPress(press({ key: "a", ctrlKey: true }), "enter", false)).toBe(false);
});
