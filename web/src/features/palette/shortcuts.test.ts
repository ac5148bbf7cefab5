import { expect, test } from "vitest";
import { commandOf, keysOf, type Press, SHORTCUTS } from "./shortcuts";

const press = (key: string, more: Partial<Press> = {}): Press => ({ key, metaKey: false, ctrlKey: false, shiftKey: false, altKey: false, ...more });

test("the palette opens with Ctrl-K, and with ⌘K on a Mac, also while typing", () => {
  expect(commandOf(press("k", { ctrlKey: true }), false, true)).toBe("palette");
  expect(commandOf(press("k", { metaKey: true }), true, true)).toBe("palette");
  expect(commandOf(press("k", { ctrlKey: true }), true, false)).toBeNull();
  expect(commandOf(press("k"), false, false)).toBeNull();
});

test("a question mark asks for help, unless one is typing", () => {
  expect(commandOf(press("?", { shiftKey: true }), false, false)).toBe("help");
  expect(commandOf(press("?"), false, false)).toBe("help");
  expect(commandOf(press("?", { shiftKey: true }), false, true)).toBeNull();
});

test("capitals from Shift are the same key", () => {
  expect(commandOf(press("O", { ctrlKey: true, shiftKey: true }), false, true)).toBe("newChat");
  expect(commandOf(press("o", { ctrlKey: true }), false, true)).toBeNull();
});

test("no two shortcuts share their keys", () => {
  const all = SHORTCUTS.map((one) => keysOf(one, false).join("+"));
  expect(new Set(all).size).toBe(all.length);
});
