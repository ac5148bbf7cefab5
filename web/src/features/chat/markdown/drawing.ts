/**
 * Has diagrams drawn by a frame that can reach nothing of the page; it is made when the first one is wanted. One after
 * the other, so that one that hangs is known, and the frame is made anew behind it.
 */

import type { DrawDiagram, DrawnDiagram } from "../../../diagram/messages";

export const LONGEST_MS = 20_000;

/** A picture as SVG, or what is wrong with the source; `late`: it was given up. */
export type Drawn = DrawnDiagram["result"] | { late: true };

interface Frame {
  element: HTMLIFrameElement;
  isReady: Promise<void>;
}

let frame: Frame | null = null;
let last: Promise<unknown> = Promise.resolve();
let count = 0;

/** What the frame says, until it is gone or the listener has heard enough. */
function listen({ element }: Pick<Frame, "element">, onMessage: (said: DrawnDiagram) => void): () => void {
  const listener = ({ data, source }: MessageEvent<DrawnDiagram>) => source === element.contentWindow && onMessage(data);
  addEventListener("message", listener);
  return () => removeEventListener("message", listener);
}

function openFrame(): Frame {
  const element = document.createElement("iframe");
  // Scripts, but no origin: no cookies, no storage, no way into the page.
  element.setAttribute("sandbox", "allow-scripts");
  element.setAttribute("aria-hidden", "true");
  element.tabIndex = -1;
  element.title = "diagrams";
  element.className = "drawing-frame";
  element.src = "/diagram.html";
  const isReady = new Promise<void>((resolve) => {
    const stop = listen({ element }, ({ id }) => {
      if (id !== "ready") return;
      stop();
      resolve();
    });
  });
  document.body.append(element);
  return { element, isReady };
}

export function drawDiagram(source: string, theme: DrawDiagram["theme"]): Promise<Drawn> {
  const drawn = last.then(() => draw(source, theme));
  last = drawn;
  return drawn;
}

function draw(source: string, theme: DrawDiagram["theme"]): Promise<Drawn> {
  count += 1;
  const id = String(count);
  frame ??= openFrame();
  const { element, isReady } = frame;
  return new Promise((resolve) => {
    const end = (drawn: Drawn) => {
      clearTimeout(timer);
      stop();
      resolve(drawn);
    };
    const stop = listen({ element }, (said) => said.id === id && end(said.result));
    const timer = setTimeout(() => {
      element.remove();
      frame = null;
      end({ late: true });
    }, LONGEST_MS);
    void isReady.then(() => element.contentWindow?.postMessage({ id, source, theme } satisfies DrawDiagram, "*"));
  });
}
