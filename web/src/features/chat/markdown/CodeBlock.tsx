import { type ReactNode, useEffect, useState } from "react";
import { CopyButton } from "../../ui/CopyButton";

const LONGEST_COLOURED = 20_000;

interface CodeBlockProps {
  code: string;
  language: string;
  /** Still being written: colours wait, so that a token costs the same in a long block as in a short one. */
  isGrowing: boolean;
}

export function CodeBlock({ code, language, isGrowing }: CodeBlockProps) {
  const coloured = useHighlight(code, language, isGrowing);
  return (
    <figure className="overflow-hidden rounded-xl border border-line bg-code">
      <figcaption className="flex h-9 items-center justify-between border-b border-line pr-1 pl-4 text-xs text-muted">
        <span>{language || "text"}</span>
        <CopyButton label="Copy code" text={() => code} withWord className="h-7!" />
      </figcaption>
      <pre tabIndex={0} aria-label={`Code${language ? `, ${language}` : ""}`} className="m-0! overflow-x-auto px-4 py-3.5 text-[0.84rem]/[1.6]">
        <code className="font-mono whitespace-pre">{coloured ?? code}</code>
      </pre>
    </figure>
  );
}

function useHighlight(code: string, language: string, isGrowing: boolean): ReactNode | null {
  const [coloured, setColoured] = useState<{ code: string; node: ReactNode | null } | null>(null);
  const isWanted = !isGrowing && language !== "" && code.length <= LONGEST_COLOURED;
  useEffect(() => {
    if (!isWanted) return;
    let isGone = false;
    import("./highlight").then(
      ({ highlight }) => !isGone && setColoured({ code, node: highlight(code, language) }),
      () => undefined, // The chunk couldn't be loaded: plain code is fine.
    );
    return () => {
      isGone = true;
    };
  }, [code, language, isWanted]);
  return coloured?.code === code ? coloured.node : null;
}
