/**
 * Cuts a growing Markdown text into sections that can be rendered on their own, so that a new token makes only the
 * last section render again. The rendering itself is a library's work; this finds cuts that cannot change its result.
 *
 * A cut is a blank line, outside fences and formulas, before a line that starts something new at the margin. A fence at
 * the margin ends whatever stands above it: it is a section of its own.
 */

/** A line that may belong to what stands above the blank line: indented, an item, a quote, HTML, a definition. */
const MAY_CONTINUE = /^(?:[ \t]|[-*+>](?:\s|$)|\d{1,9}[.)](?:\s|$)|<|\[)/;
/** HTML that only its own end mark ends: a text that has it stays whole from there. */
const REACHES_FAR = /^ {0,3}<(?:script|pre|style|textarea|!|\?)/i;
const FENCE = /^( {0,3})(?:(`{3,})([^`]*)|(~{3,})(.*))$/;
/** Where a formula on lines of its own begins; it may have blank lines in it, but not for ever. */
const FORMULA = /^ {0,3}(\$\$|\\\[)/;
const LONGEST_FORMULA = 40;
const DEFINITION = /^ {0,3}\[[^\]\n]+\]:/m;

export interface Sectioner {
  /** The sections of `text`, which must start with the text of the call before. All but the last are final. */
  update(text: string): readonly string[];
}

/** Whether a link or a footnote is defined in it: once it is finished, such a text is rendered in one. */
export const hasDefinitions = (text: string): boolean => DEFINITION.test(text);

export function createSectioner(): Sectioner {
  let sections: string[] = [];
  let settledLength = 0; // the length of the text in all sections but the last
  let scanned = 0; // complete lines before this offset have been looked at
  let fence: { mark: string; isAtMargin: boolean } | null = null;
  let formula: { end: string; lines: number } | null = null;
  let isAfterBlank = false;
  let isAfterFence = false;
  let isWhole = false;

  function cut(at: number, text: string): void {
    if (at <= settledLength) return;
    sections = [...sections, text.slice(settledLength, at)];
    settledLength = at;
  }

  function scanFenced(line: string): void {
    if (fence === null || !isClosing(line, fence.mark)) return;
    isAfterFence = fence.isAtMargin;
    fence = null;
  }

  function scanFormula(line: string): void {
    if (formula === null) return;
    formula.lines += 1;
    if (line.includes(formula.end) || formula.lines > LONGEST_FORMULA) formula = null;
  }

  function scanLine(line: string, start: number, text: string): void {
    if (fence !== null) return scanFenced(line);
    if (formula !== null) return scanFormula(line);
    if (line.trim() === "") {
      isAfterBlank = true;
      return;
    }
    const opened = FENCE.exec(line);
    const isAtMargin = opened?.[1] === "";
    if (isAtMargin || isAfterFence || (isAfterBlank && !MAY_CONTINUE.test(line))) cut(start, text);
    isAfterBlank = false;
    isAfterFence = false;
    if (opened) fence = { mark: opened[2] ?? opened[4]!, isAtMargin };
    else if (REACHES_FAR.test(line)) isWhole = true;
    else openFormula(line);
  }

  function openFormula(line: string): void {
    const mark = FORMULA.exec(line)?.[1];
    if (mark === undefined) return;
    const end = mark === "$$" ? "$$" : "\\]";
    if (!line.slice(line.indexOf(mark) + 2).includes(end)) formula = { end, lines: 0 };
  }

  return {
    update(text) {
      while (!isWhole) {
        const end = text.indexOf("\n", scanned);
        if (end < 0) break;
        scanLine(text.slice(scanned, end), scanned, text);
        scanned = end + 1;
      }
      return [...sections, text.slice(settledLength)];
    },
  };
}

function isClosing(line: string, mark: string): boolean {
  const found = FENCE.exec(line);
  const closing = found?.[2] ?? found?.[4];
  return closing !== undefined && closing.startsWith(mark) && (found?.[3] ?? found?.[5] ?? "").trim() === "";
}

export interface Fenced {
  language: string;
  code: string;
  /** Its closing fence is there. */
  isClosed: boolean;
}

/** What a section that is a fence holds; null for any other. */
export function fencedIn(section: string): Fenced | null {
  const [first = "", ...rest] = section.split("\n");
  const opened = FENCE.exec(first);
  if (opened?.[1] !== "") return null;
  // The name of the language is still being written.
  if (rest.length === 0) return { language: "", code: "", isClosed: false };
  const mark = opened[2] ?? opened[4]!;
  const language = (opened[3] ?? opened[5] ?? "").trim().split(/\s/)[0] ?? "";
  const end = rest.findIndex((line) => isClosing(line, mark));
  return { language, code: rest.slice(0, end < 0 ? undefined : end).join("\n"), isClosed: end >= 0 };
}
