import { expect, test } from "vitest";
import { csvOf } from "./csv";

test("a field with a comma, a quote or a new line is quoted", () => {
  expect(csvOf([["a", "b,c"], ['say "x"', "1\n2"]])).toBe('a,"b,c"\r\n"say ""x""","1\n2"');
});
