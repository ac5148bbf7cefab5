/**
 * Cuts a growing Markdown text into sections that can be rendered on their own, so that a new token makes only the
 * last section render again. The rendering itself is a library's work; this finds cuts that cannot change its result.
 *
 * A cut is a blank line, outside a fence, before a line that starts something new at the margin.
 */

/** A line that may belong to what stands above the blank line: indented, an item, a quote, HTML, a definition. */
const MAY_CONTINUE = /^(?:[ \t]|[-*+>](?:\s|$)|\d{1,9}[.)](?:\s|$)|<|\[)/;
/** HTML blocks, footnotes and link definitions reach across sections: a text that has one stays whole from there. */
const REACHES_FAR = /^ {0,3}(?:<[a-zA-Z/!?]|\[[^\]]+\]:)/;
const FENCE = /^ {0,3}(`{3,}|~{3,})(.*)$/;

export interface Sectioner {
  /** The sections of `text`, which must start with the text of the call before. All but the last are final. */
  update(text: string): readonly string[];
}

export function createSectioner(): Sectioner {
  let sections: string[] = [];
  let settledLength = 0; // the length of the text in all sections but the last
  let scanned = 0; // complete lines before this offset have been looked at
  let fence: string | null = null;
  let isAfterBlank = false;
  let isWhole = false;

  function scanLine(line: string, start: number, text: string): void {
    const fenceMark = FENCE.exec(line);
    if (fence !== null) {
      const isClosing = fenceMark !== null && fenceMark[1]!.startsWith(fence) && fenceMark[2]!.trim() === "";
      if (isClosing) fence = null;
      isAfterBlank = false;
      return;
    }
    if (line.trim() === "") {
      isAfterBlank = true;
      return;
    }
    if (isAfterBlank && start > settledLength && !MAY_CONTINUE.test(line)) {
      sections.push(text.slice(settledLength, start));
      settledLength = start;
    }
    isAfterBlank = false;
    if (fenceMark !== null) fence = fenceMark[1]!;
    else if (REACHES_FAR.test(line)) isWhole = true;
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
