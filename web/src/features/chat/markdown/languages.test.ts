import { expect, test } from "vitest";
import { grammarOf } from "./grammars";
import { languageName } from "./languages";

test("however a language is written, it has one name and one grammar", () => {
  for (const written of ["python3", "Py", "python"]) {
    expect(languageName(written)).toBe("Python");
    expect(grammarOf(written)?.name).toBe("python");
  }
  expect(languageName("c++")).toBe("C++");
  expect(languageName("golang")).toBe("Go");
});

test("what is coloured like another keeps its own name", () => {
  expect([languageName("toml"), grammarOf("toml")?.name]).toEqual(["TOML", "ini"]);
  expect([languageName("vue"), grammarOf("vue")?.name]).toEqual(["Vue", "xml"]);
});

test("no language has no name, and one that isn't known is called as it is written", () => {
  expect([languageName(""), languageName("text"), languageName("txt")]).toEqual([null, null, null]);
  expect([languageName("Befunge"), grammarOf("Befunge"), grammarOf("constructor")]).toEqual(["Befunge", null, null]);
});
