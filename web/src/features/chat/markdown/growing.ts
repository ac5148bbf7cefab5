/** What the end of a text that is still being written is shown as: what it is about to be. Pure. */

import remend from "remend";

const ROW = /^ {0,3}\|.*\|[ \t]*$/;
const BEGUN_DELIMITER = /^ {0,3}\|[ \t:|-]*$/;
const DELIMITER = /^ {0,3}\|(?:[ \t]*:?-+:?[ \t]*\|)+[ \t]*$/;

/** Formulas have been closed before this. */
export const completed = (source: string): string =>
  remend(completeTable(source), { katex: false, inlineKatex: false, linkMode: "text-only" });

/** A head without its delimiter row is no table yet: it gets one. */
export function completeTable(source: string): string {
  const lines = source.split("\n");
  const last = lines.at(-1) ?? "";
  const isDelimiterBegun = lines.length > 1 && BEGUN_DELIMITER.test(last) && ROW.test(lines.at(-2)!);
  const head = isDelimiterBegun || last === "" ? lines.length - 2 : lines.length - 1;
  const row = lines[head];
  if (row === undefined || !ROW.test(row) || DELIMITER.test(row) || isInTable(lines, head)) return source;
  const columns = columnsOf(row);
  if (isDelimiterBegun && DELIMITER.test(last) && columnsOf(last) === columns) return source;
  return [...lines.slice(0, head + 1), `|${" --- |".repeat(columns)}`].join("\n");
}

const columnsOf = (row: string): number => row.trim().slice(1, -1).split(/(?<!\\)\|/).length;

const isInTable = (lines: string[], at: number): boolean => at > 0 && ROW.test(lines[at - 1]!);
