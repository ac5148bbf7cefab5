/** What the page and the frame that draws say to each other. */

export interface DrawDiagram {
  id: string;
  source: string;
  theme: "light" | "dark";
}

export interface DrawnDiagram {
  id: string;
  result: { svg: string } | { error: string };
}
