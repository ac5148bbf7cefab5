import { expect, test } from "vitest";
import { createSectioner } from "./sections";

function grown(text: string): readonly string[] {
  const sectioner = createSectioner();
  for (let end = 0; end < text.length; end++) sectioner.update(text.slice(0, end));
  return sectioner.update(text);
}

const TEXT = "# Title\n\nOne.\nStill one.\n\n- a\n\n  more of a\n\n- b\n\nTwo.\n\n```py\nx\n\n\ny\n```\n\nThree\n";

test("a text is cut at blank lines before something new, whole inside lists and fences", () => {
  expect(grown(TEXT)).toEqual([
    "# Title\n\n",
    "One.\nStill one.\n\n- a\n\n  more of a\n\n- b\n\n",
    "Two.\n\n",
    "```py\nx\n\n\ny\n```\n\n",
    "Three\n",
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

test("from a link definition on, the text stays whole", () => {
  expect(grown("[a]: http://b\n\nOne\n\nTwo")).toHaveLength(1);
});
