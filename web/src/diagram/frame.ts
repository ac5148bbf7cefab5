/**
 * Draws diagrams in a frame without an origin: Mermaid needs styles that the page's policy forbids, and what a model
 * wrote had better not be drawn where the page's data is. In: a source; out: a picture, or what is wrong with it.
 */

import mermaid from "mermaid";
import type { DrawnDiagram, DrawDiagram } from "./messages";

const PALETTES = {
  light: { background: "#fdfcfa", ink: "#1f1d19", line: "#645f55", fill: "#e2efeb", second: "#efece4", third: "#fbf1ec", border: "#14695c" },
  dark: { background: "#191816", ink: "#ece9e2", line: "#a8a296", fill: "#1d332e", second: "#2b2926", third: "#2c221e", border: "#74cdbb" },
} as const;

function configure(theme: keyof typeof PALETTES): void {
  const { background, ink, line, fill, second, third, border } = PALETTES[theme];
  mermaid.initialize({
    startOnLoad: false,
    securityLevel: "strict",
    suppressErrorRendering: true,
    maxTextSize: 20_000,
    htmlLabels: false,
    flowchart: { htmlLabels: false },
    theme: "base",
    fontFamily: 'ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif',
    themeVariables: {
      darkMode: theme === "dark",
      background,
      fontSize: "15px",
      primaryColor: fill,
      primaryTextColor: ink,
      primaryBorderColor: border,
      secondaryColor: second,
      tertiaryColor: third,
      lineColor: line,
      textColor: ink,
      mainBkg: fill,
      nodeBorder: border,
      clusterBkg: second,
      clusterBorder: line,
      edgeLabelBackground: background,
      noteBkgColor: third,
      noteTextColor: ink,
      noteBorderColor: line,
    },
  });
}

let count = 0;

async function draw({ source, theme }: DrawDiagram): Promise<DrawnDiagram["result"]> {
  configure(theme);
  try {
    count += 1;
    const { svg } = await mermaid.render(`diagram-${count}`, source);
    return { svg: withSize(svg) };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

/** A picture has the size that it says; Mermaid says "as wide as there is room". */
function withSize(svg: string): string {
  const holder = document.createElement("div");
  holder.innerHTML = svg;
  const root = holder.querySelector("svg");
  if (root === null) throw new Error("Mermaid drew nothing.");
  const { width, height } = root.viewBox.baseVal;
  root.setAttribute("width", String(Math.ceil(width)));
  root.setAttribute("height", String(Math.ceil(height)));
  root.removeAttribute("style");
  return new XMLSerializer().serializeToString(root);
}

// One after the other: Mermaid draws in the document, and its settings are one for all.
let last: Promise<unknown> = Promise.resolve();

addEventListener("message", ({ data, source }: MessageEvent<DrawDiagram>) => {
  if (source !== parent) return;
  last = last.then(async () => {
    const drawn: DrawnDiagram = { id: data.id, result: await draw(data) };
    parent.postMessage(drawn, "*");
  });
});
parent.postMessage({ id: "ready" }, "*");
