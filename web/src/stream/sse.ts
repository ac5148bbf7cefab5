/** Server-sent events, parsed as they come: the work is in proportion to the new bytes, never to what came before. */

export interface SseEvent {
  id: string | null;
  /** Empty where the server only says, with an `id:`, where the stream is. */
  data: string;
}

export interface SseParser {
  /** Takes the next piece of text, cut anywhere, and gives the events that it completed. */
  push(piece: string): SseEvent[];
}

export function createSseParser(): SseParser {
  let unfinishedLine = "";
  let lastWasCarriageReturn = false;
  let isFirst = true;
  let data: string[] = [];
  let id: string | null = null;
  let isPlaced = false;

  function takeLine(line: string, events: SseEvent[]): void {
    if (line === "") {
      if (data.length > 0 || isPlaced) events.push({ id, data: data.join("\n") });
      data = [];
      isPlaced = false;
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment, such as the heartbeat
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") data.push(value);
    else if (field === "id" && !value.includes("\0")) {
      id = value;
      isPlaced = true;
    }
  }

  return {
    push(piece) {
      const events: SseEvent[] = [];
      let start = 0;
      if (isFirst && piece.length > 0) {
        isFirst = false;
        if (piece.charCodeAt(0) === 0xfeff) start = 1;
      }
      for (let at = start; at < piece.length; at++) {
        const char = piece.charCodeAt(at);
        if (char === 10 && lastWasCarriageReturn) {
          lastWasCarriageReturn = false;
          start = at + 1;
          continue;
        }
        lastWasCarriageReturn = char === 13;
        if (char !== 10 && char !== 13) continue;
        takeLine(unfinishedLine + piece.slice(start, at), events);
        unfinishedLine = "";
        start = at + 1;
      }
      unfinishedLine += piece.slice(start);
      return events;
    },
  };
}
