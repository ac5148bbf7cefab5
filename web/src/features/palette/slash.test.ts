import { expect, test } from "vitest";
import { matchSlash } from "./slash";

const names = (text: string) => matchSlash(text, () => true).map(({ name }) => name);

test("a slash shows all commands, letters narrow them", () => {
  expect(names("/").length).toBeGreaterThan(8);
  expect(names("/se")).toEqual(["search", "settings"]);
  expect(names("/NEW")).toEqual(["new"]);
});

test("a path, a sentence or an unknown word is text", () => {
  for (const text of ["", "new", "/etc/hosts", "/new one", "/xyz", " /new"]) expect(names(text)).toEqual([]);
});

test("what can't be done here isn't offered", () => {
  expect(matchSlash("/", (command) => command === "help").map(({ name }) => name)).toEqual(["help"]);
});
