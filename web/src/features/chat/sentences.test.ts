import { expect, test } from "vitest";
import { sentencesFrom } from "./sentences";

test("only whole sentences are said, and each once", () => {
  const first = sentencesFrom("The sea is **calm**. The keeper", 0, "Code.");
  expect(first.words).toBe("The sea is calm.");
  const second = sentencesFrom("The sea is **calm**. The keeper sleeps. And", first.upTo, "Code.");
  expect(second.words).toBe("The keeper sleeps.");
});

test("a number with a point isn't the end of a sentence", () => {
  expect(sentencesFrom("It is 3.14 or so", 0, "Code.").words).toBe("");
});

test("a block of code is named, once it is whole, and not read", () => {
  expect(sentencesFrom("See this:\n\n```py\nprint(1). \n", 0, "Code.").words).toBe("See this:");
  expect(sentencesFrom("See this:\n\n```py\nprint(1)\n```\nDone. ", 0, "Code.").words).toBe("See this: Code. Done.");
});

test("a link is said by its words", () => {
  expect(sentencesFrom("Read [the log](http://x/y). Then", 0, "Code.").words).toBe("Read the log.");
});

test("once the answer is over the rest is told, whether or not it ends like a sentence", () => {
  expect(sentencesFrom("One. Two is the last.", 5, "code", true)).toEqual({ words: "Two is the last.", upTo: 21 });
  expect(sentencesFrom("One.\n\n- a list", 6, "code", true).words).toBe("a list");
  expect(sentencesFrom("See:\n```py\nprint(1", 0, "A block of code.", true)).toEqual({ words: "See: A block of code.", upTo: 18 });
});
