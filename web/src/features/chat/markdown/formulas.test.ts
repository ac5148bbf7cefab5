import { expect, test } from "vitest";
import { markFormulas } from "./formulas";

const marked = (source: string) => markFormulas(source, false);

test.each([
  ["It costs $5 and $10."],
  ["From $5-$10, or $5/$10."],
  ["About $5 million (or 4$)."],
  ["Set $HOME and $PATH."],
  ["US$5, A$6"],
  ["5$ and 10$"],
  ["`$x$` and ``\\(y`z\\)``"],
  ["```sh\necho $A$B\n\\(x\\)\n```"],
  ["A \\$5 \\$ note"],
  ["$ x $"],
  ["one $a\n\nanother$ b"],
])("%s has no formula", (source) => {
  expect(marked(source)).toBe(source);
});

test.each([
  ["so $x^2$ is", "so $$x^2$$ is"],
  ["$5x + 3 = 0$", "$$5x + 3 = 0$$"],
  ["$5$ apples", "$$5$$ apples"],
  ["\\(a + b\\), then", "$$a + b$$, then"],
  ["\\[\na\n\nb\n\\]", "$$\na\nb\n$$"],
  ["\\[ a \\]", "$$\na\n$$"],
  ["see \\[ a \\] here", "see $$a$$ here"],
  ["$$E = mc^2$$", "$$\nE = mc^2\n$$"],
  ["$$\nx\n$$", "$$\nx\n$$"],
  ["- so\n  $$\n  x\n  $$\n- b", "- so\n  $$\n  x\n  $$\n- b"],
  ["($\\alpha$)", "($$\\alpha$$)"],
  ["costs $5, and $x$ is", "costs $5, and $$x$$ is"],
])("%j becomes %j", (source, wanted) => {
  expect(marked(source)).toBe(wanted);
});

test("a formula that is still being written is closed where the text ends", () => {
  expect(markFormulas("so \\(a + ", true)).toBe("so $$a +$$");
  expect(markFormulas("\\[\n\\frac{a", true)).toBe("$$\n\\frac{a\n$$");
  expect(markFormulas("$$\n\\frac{a", true)).toBe("$$\n\\frac{a\n$$");
  expect(markFormulas("costs $5", true)).toBe("costs $5");
});
