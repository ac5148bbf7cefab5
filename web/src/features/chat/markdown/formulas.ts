/**
 * Finds the formulas in Markdown and writes all of them one way, the way that remark-math reads without guessing:
 * `$$…$$` in a line, and `$$` on lines of its own around one that stands alone. Pure.
 *
 * A single dollar is a formula by Pandoc's rule: something other than a space stands inside each mark, and no digit
 * behind the second. What begins with a number and has nothing of TeX in it is a price.
 */

const FENCE = /^ {0,3}(`{3,}|~{3,})/;
const HAS_MARK = /\$|\\\(|\\\[/;
const OF_TEX = /[\\^_=+{}<>*]/;
const ONLY_NUMBER = /^\d+(?:[.,]\d+)?$/;

/** `isGrowing`: a formula whose end hasn't come yet is closed where the text ends. */
export function markFormulas(source: string, isGrowing: boolean): string {
  if (!HAS_MARK.test(source)) return source;
  const parts: string[] = [];
  let prose: string[] = [];
  let fence: string | null = null;
  const endProse = (isLast: boolean) => {
    if (prose.length > 0) parts.push(markProse(prose.join("\n"), isGrowing && isLast));
    prose = [];
  };
  for (const line of source.split("\n")) {
    const mark = FENCE.exec(line)?.[1];
    if (fence === null && mark === undefined) {
      prose.push(line);
      continue;
    }
    endProse(false);
    if (fence === null) fence = mark!;
    else if (mark?.startsWith(fence)) fence = null;
    parts.push(line);
  }
  endProse(true);
  return parts.join("\n");
}

function markProse(text: string, isGrowing: boolean): string {
  let marked = "";
  let at = 0;
  while (at < text.length) {
    const taken = takeCode(text, at) ?? takeEscape(text, at, isGrowing) ?? takeDollars(text, at, isGrowing);
    marked += taken?.written ?? text[at]!;
    at = taken?.end ?? at + 1;
  }
  return marked;
}

interface Taken {
  written: string;
  end: number;
}

function takeCode(text: string, at: number): Taken | null {
  if (text[at] !== "`") return null;
  const run = /^`+/.exec(text.slice(at))![0];
  const closing = new RegExp(`(?<!\`)${run}(?!\`)`, "g");
  closing.lastIndex = at + run.length;
  const end = (closing.exec(text)?.index ?? at) + run.length;
  return { written: text.slice(at, end), end };
}

function takeEscape(text: string, at: number, isGrowing: boolean): Taken | null {
  if (text[at] !== "\\") return null;
  const opening = text[at + 1];
  if (opening === "(") return takeUntil(text, at, "\\)", isGrowing) ?? { written: "\\(", end: at + 2 };
  if (opening === "[") return takeUntil(text, at, "\\]", isGrowing) ?? { written: "\\[", end: at + 2 };
  return { written: text.slice(at, at + 2), end: at + 2 };
}

function takeDollars(text: string, at: number, isGrowing: boolean): Taken | null {
  if (text[at] !== "$") return null;
  if (text[at + 1] === "$") return takeUntil(text, at, "$$", isGrowing) ?? { written: "$$", end: at + 2 };
  const end = endOfSingle(text, at);
  return end === null ? null : { written: inLine(text.slice(at + 1, end)), end: end + 1 };
}

function takeUntil(text: string, at: number, closing: string, isGrowing: boolean): Taken | null {
  const found = text.indexOf(closing, at + 2);
  if (found < 0 && !isGrowing) return null;
  const inner = text.slice(at + 2, found < 0 ? undefined : found);
  // A formula in a line of text ends with its paragraph.
  if (closing === "\\)" && /\n\s*\n/.test(inner)) return null;
  const end = found < 0 ? text.length : found + 2;
  const indent = indentBefore(text, at);
  const isAlone = closing !== "\\)" && indent !== null && /^[ \t]*(?:\n|$)/.test(text.slice(end));
  return { written: isAlone ? alone(inner, indent) : inLine(inner), end };
}

/** The white space between the margin and this place; null if there is more than that. */
function indentBefore(text: string, at: number): string | null {
  const before = text.slice(text.lastIndexOf("\n", at - 1) + 1, at);
  return before.trim() === "" ? before : null;
}

function endOfSingle(text: string, at: number): number | null {
  const before = text[at - 1] ?? " ";
  const first = text[at + 1] ?? " ";
  if (/[\w$\\]/.test(before) || /\s/.test(first)) return null;
  for (let end = at + 2; end < text.length; end++) {
    if (text[end] === "\n" && /^\s*\n/.test(text.slice(end + 1))) return null;
    if (text[end] === "`") return null;
    if (text[end] !== "$" || text[end - 1] === "\\") continue;
    if (/\s/.test(text[end - 1]!) || /[\w$]/.test(text[end + 1] ?? " ")) continue;
    return isFormula(text.slice(at + 1, end)) ? end : null;
  }
  return null;
}

const isFormula = (inner: string): boolean => !/^\d/.test(inner) || ONLY_NUMBER.test(inner) || OF_TEX.test(inner);

const inLine = (tex: string): string => {
  const trimmed = tex.replace(/\s+/g, " ").trim();
  return trimmed === "" ? "" : `$$${trimmed}$$`;
};

/** In the lines of the item that it stands in, if it does. Blank lines would end the paragraph around it. */
function alone(tex: string, indent: string): string {
  const lines = tex.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  return ["$$", ...lines.map((line) => indent + line), `${indent}$$`].join("\n");
}
