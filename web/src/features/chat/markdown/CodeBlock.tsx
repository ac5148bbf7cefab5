import { memo, type ReactNode, useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { CopyButton } from "../../../ui/CopyButton";
import { languageName } from "./languages";

const LONGEST_COLOURED = 20_000;
/** A block that grows is laid out in pieces of this many lines, so that a token costs the same in a long one. */
const PIECE = 48;

interface CodeBlockProps {
  code: string;
  language: string;
  /** Still being written: colours wait. */
  isGrowing: boolean;
  /** What stands beside the name, such as the way back to a diagram. */
  children?: ReactNode;
}

export function CodeBlock({ code, language, isGrowing, children }: CodeBlockProps) {
  const { t } = useTranslation("chat");
  const coloured = useHighlight(code, language, isGrowing);
  const [isWrapped, setIsWrapped] = useState(false);
  const name = languageName(language) ?? t("text");
  return (
    <figure dir="ltr" className="overflow-hidden rounded-xl border border-line bg-code">
      <figcaption className="flex h-9 items-center gap-1 border-b border-line pr-1 pl-4 text-xs text-muted">
        <span className="min-w-0 flex-1 truncate">{name}</span>
        {children}
        <button
          type="button"
          aria-pressed={isWrapped}
          onClick={() => setIsWrapped(!isWrapped)}
          className="h-7 rounded-lg px-2 transition-colors hover:bg-hover hover:text-ink aria-pressed:text-accent"
        >
          {t("wrap")}
        </button>
        <CopyButton label={t("copyCode")} text={() => code} withWord className="h-7!" />
      </figcaption>
      <pre tabIndex={0} role="group" aria-label={t("codeIn", { language: name })} className="m-0! overflow-x-auto px-4 py-3.5 text-[0.84rem]/[1.6]">
        <code className={`font-mono ${isWrapped ? "wrap-anywhere whitespace-pre-wrap" : "whitespace-pre"}`}>
          {coloured ?? (isGrowing ? <Pieces code={code} /> : code)}
        </code>
      </pre>
    </figure>
  );
}

function Pieces({ code }: { code: string }) {
  const lines = code.split("\n");
  const starts = Array.from({ length: Math.ceil(lines.length / PIECE) }, (_, piece) => piece * PIECE);
  return starts.map((start) => <Piece key={start} text={lines.slice(start, start + PIECE).join("\n")} />);
}

const Piece = memo(function Piece({ text }: { text: string }) {
  return <span className="block">{text === "" ? "\n" : text}</span>;
});

function useHighlight(code: string, language: string, isGrowing: boolean): ReactNode | null {
  const [coloured, setColoured] = useState<{ code: string; node: ReactNode | null } | null>(null);
  const isWanted = !isGrowing && language !== "" && code.length <= LONGEST_COLOURED;
  useEffect(() => {
    if (!isWanted) return;
    let isGone = false;
    import("./highlight")
      .then(({ highlight }) => highlight(code, language))
      .then(
        (node) => !isGone && setColoured({ code, node }),
        () => undefined, // The chunk couldn't be loaded: plain code is fine.
      );
    return () => {
      isGone = true;
    };
  }, [code, language, isWanted]);
  return coloured?.code === code ? coloured.node : null;
}
