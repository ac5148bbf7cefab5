import { expect, test } from "vitest";
import { completeTable, completed } from "./growing";

const HEAD = "| a | b |";
const DELIMITER = "| --- | --- |";

test("a table is one as soon as its head is there", () => {
  expect(completeTable(`Text\n\n${HEAD}`)).toBe(`Text\n\n${HEAD}\n${DELIMITER}`);
  expect(completeTable(`${HEAD}\n`)).toBe(`${HEAD}\n${DELIMITER}`);
  expect(completeTable(`${HEAD}\n|-`)).toBe(`${HEAD}\n${DELIMITER}`);
  expect(completeTable(`${HEAD}\n|---|--`)).toBe(`${HEAD}\n${DELIMITER}`);
});

test("a table that is one stays as it is", () => {
  for (const rows of ["|---|---|", "|---|---|\n", "|---|---|\n| 1 |", "|---|---|\n| 1 | 2 |", "|---|---|\n| 1 | 2 |\n"]) {
    expect(completeTable(`${HEAD}\n${rows}`)).toBe(`${HEAD}\n${rows}`);
  }
});

test("half of a bold word, of code and of a link are shown as what they will be", () => {
  expect(completed("a **bold")).toBe("a **bold**");
  expect(completed("a `code")).toBe("a `code`");
  expect(completed("see [the page](http://exa")).toBe("see the page");
});
