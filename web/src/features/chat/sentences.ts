/** What a screen reader is told of an answer that is being written: whole sentences, without their Markdown. Pure. */

export interface Said {
  words: string;
  /** Where in the text the next ones begin. */
  upTo: number;
}

const END = /[.!?…](?:["'”’)\]]*)(?=\s)|[。！？]|\n\s*\n|\n(?=[-*+] |\d+[.)] |#)/g;

/** The finished sentences behind `from`, of a text that `isOver` all the rest; `words` is empty where there is none. `code` stands for a block of code. */
export function sentencesFrom(text: string, from: number, code: string, isOver = false): Said {
  const fence = /^ {0,3}(?:```|~~~)/m;
  let upTo = from;
  let words = "";
  for (;;) {
    const rest = text.slice(upTo);
    const opened = fence.exec(rest);
    const prose = opened ? rest.slice(0, opened.index) : rest;
    const end = opened || isOver ? prose.length : lastEnd(prose);
    words += ` ${plain(prose.slice(0, end))}`;
    upTo += end;
    if (!opened) break;
    const closing = /\n {0,3}(?:```|~~~)[^\n]*(?:\n|$)/.exec(rest.slice(opened.index));
    if (!closing) {
      if (isOver) return { words: tidy(`${words} ${code}`), upTo: text.length };
      break;
    }
    words += ` ${code}`;
    upTo = upTo + closing.index + closing[0].length;
  }
  return { words: tidy(words), upTo };
}

const tidy = (words: string): string => words.replace(/\s+/g, " ").trim();

function lastEnd(prose: string): number {
  let end = 0;
  for (const found of prose.matchAll(END)) end = found.index + found[0].length;
  return end;
}

const plain = (markdown: string): string =>
  markdown
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/^\s*(?:#{1,6}|>|[-*+]|\|)\s+/gm, "")
    .replace(/[*_`~|]+/g, "");
