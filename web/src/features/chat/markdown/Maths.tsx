import { useEffect, useLayoutEffect, useRef, useState } from "react";

type Katex = typeof import("./katex").default;

let loaded: Katex | null = null;

/** KaTeX, fetched when the first formula is there. */
function useKatex(): Katex | null {
  const [katex, setKatex] = useState(() => loaded);
  useEffect(() => {
    if (katex !== null) return;
    let isGone = false;
    import("./katex").then(
      (module) => {
        loaded = module.default;
        if (!isGone) setKatex(() => loaded);
      },
      () => undefined, // It couldn't be loaded: the source is fine.
    );
    return () => {
      isGone = true;
    };
  }, [katex]);
  return katex;
}

interface MathsProps {
  tex: string;
  isDisplay: boolean;
  /** Still being written: what can't be set yet stays as it could be set last. */
  isGrowing: boolean;
}

export function Maths({ tex, isDisplay, isGrowing }: MathsProps) {
  const katex = useKatex();
  const box = useRef<HTMLElement>(null);
  const isSet = useRef(false);

  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const formula = katex && typeset(katex, tex, isDisplay);
    if (formula === null && isSet.current && isGrowing) return;
    isSet.current = formula !== null;
    element.classList.toggle("maths-source", formula === null);
    element.replaceChildren(formula ?? tex);
    // Whoever can't point scrolls it with the keyboard.
    if (isDisplay && element.scrollWidth > element.clientWidth) element.tabIndex = 0;
    else element.removeAttribute("tabindex");
  }, [katex, tex, isDisplay, isGrowing]);

  // React leaves what is inside to KaTeX.
  return isDisplay ? <div ref={box as never} className="maths" role="math" aria-label={tex} /> : <span ref={box} />;
}

/** Null for what isn't TeX. Nothing in it may name a file, an address or a class. */
function typeset(katex: Katex, tex: string, isDisplay: boolean): Node | null {
  const holder = document.createElement("span");
  try {
    katex.render(tex, holder, { displayMode: isDisplay, throwOnError: true, strict: "ignore", trust: false, maxExpand: 300, maxSize: 30 });
  } catch {
    return null;
  }
  return holder;
}
