/** Has diagrams drawn by a frame that can reach nothing of the page; it is made when the first one is wanted. */

import type { DrawDiagram, DrawnDiagram } from "../../../diagram/messages";

const LONGEST_MS = 20_000;

let frame: Promise<HTMLIFrameElement> | null = null;
const waiting = new Map<string, (result: DrawnDiagram["result"]) => void>();
let count = 0;

function openFrame(): Promise<HTMLIFrameElement> {
  const element = document.createElement("iframe");
  // Scripts, but no origin: no cookies, no storage, no way into the page.
  element.setAttribute("sandbox", "allow-scripts");
  element.setAttribute("aria-hidden", "true");
  element.tabIndex = -1;
  element.title = "diagrams";
  element.className = "drawing-frame";
  element.src = "/diagram.html";
  return new Promise((resolve) => {
    addEventListener("message", ({ data, source }: MessageEvent<DrawnDiagram>) => {
      if (source !== element.contentWindow) return;
      if (data.id === "ready") return resolve(element);
      waiting.get(data.id)?.(data.result);
      waiting.delete(data.id);
    });
    document.body.append(element);
  });
}

/** A picture as SVG, or what is wrong with the source. */
export async function drawDiagram(source: string, theme: DrawDiagram["theme"]): Promise<DrawnDiagram["result"]> {
  count += 1;
  const id = String(count);
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      waiting.delete(id);
      resolve({ error: "It took too long." });
    }, LONGEST_MS);
    waiting.set(id, (result) => {
      clearTimeout(timer);
      resolve(result);
    });
    frame ??= openFrame();
    void frame.then((element) => element.contentWindow?.postMessage({ id, source, theme } satisfies DrawDiagram, "*"));
  });
}
