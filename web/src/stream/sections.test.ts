import { expect, test } from "vitest";
import { createSectioner, fencedIn, hasDefinitions } from "./sections";

function grown(text: string): readonly string[] {
  const sectioner = createSectioner();
  for (let end = 0; end < text.length; end++) sectioner.update(text.slice(0, end));
  return sectioner.update(text);
}

const TEXT =
  "# Title\n\nOne.\nStill one.\n\n- a\n\n  more of a\n\n- b\n\nTwo.\n\n```py\nx\n\n\ny\n```\n\n- Three\n\n$$\na\n\nb\n$$\n\nFour\n```\nz\n```\nFive\n";

test("a text is cut at blank lines before something new, whole inside lists, fences and formulas", () => {
  expect(grown(TEXT)).toEqual([
    "# Title\n\n",
    "One.\nStill one.\n\n- a\n\n  more of a\n\n- b\n\n",
    "Two.\n\n",
    "```py\nx\n\n\ny\n```\n\n",
    "- Three\n\n",
    "$$\na\n\nb\n$$\n\n",
    "Four\n",
    "```\nz\n```\n",
    "Five\n",
  ]);
});

test("the sections joined are the text, however it grew", () => {
  expect(grown(TEXT).join("")).toBe(TEXT);
  expect(createSectioner().update(TEXT)).toEqual(grown(TEXT));
});

test("a section that is not the last never changes again", () => {
  const sectioner = createSectioner();
  let settled: string[] = [];
  for (let end = 0; end <= TEXT.length; end++) {
    const now = sectioner.update(TEXT.slice(0, end)).slice(0, -1);
    expect(now.slice(0, settled.length)).toEqual(settled);
    settled = now;
  }
});

test("a fence is closed by a fence at least as long, of its own kind", () => {
  expect(grown("````\na\n\n```\n\nb\n````\n\nc\n")).toEqual(["````\na\n\n```\n\nb\n````\n\n", "c\n"]);
});

test("three backticks that close on their own line are no fence", () => {
  expect(grown("```a``` b\n\nc\n\nd")).toEqual(["```a``` b\n\n", "c\n\nd"]);
});

test("a fence inside an item stays with its item", () => {
  expect(grown("- a\n\n  ```py\n  x\n\n  y\n  ```\n\n- b\n\nc\n")).toEqual(["- a\n\n  ```py\n  x\n\n  y\n  ```\n\n- b\n\n", "c\n"]);
});

test("a formula that is never closed holds the text together for a while only", () => {
  const lines = Array.from({ length: 100 }, (_, at) => `line ${at}\n\n`).join("");
  expect(grown(`$$ not a formula\n\n${lines}`).length).toBeGreaterThan(70);
});

test("a text with definitions is known by them", () => {
  expect(hasDefinitions("One[^1]\n\n[^1]: where it stands\n")).toBe(true);
  expect(hasDefinitions("One [a](http://b)\n")).toBe(false);
});

test("a section that is a fence gives its code and its language, also while it is open", () => {
  expect(fencedIn("```py title\nx\n\ny\n```\n\n")).toEqual({ language: "py", code: "x\n\ny", isClosed: true });
  expect(fencedIn("~~~\nx\n```\ny")).toEqual({ language: "", code: "x\n```\ny", isClosed: false });
  expect(fencedIn("```p")).toEqual({ language: "", code: "", isClosed: false });
  expect(fencedIn("text\n```\nx\n```\n")).toBeNull();
});
