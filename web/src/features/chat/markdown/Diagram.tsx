import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { useTheme } from "../../../app/theme";
import { CopyButton } from "../../../ui/CopyButton";
import { useMedia } from "../../../ui/media";
import { CodeBlock } from "./CodeBlock";
import { type Drawn, drawDiagram } from "./drawing";

const CAPTION_BUTTON = "h-7 rounded-lg px-2 transition-colors hover:bg-hover hover:text-ink";

/** The source until the picture is there, and where there can be none. */
export function Diagram({ source, isGrowing }: { source: string; isGrowing: boolean }) {
  const { t } = useTranslation("chat");
  const drawn = useDrawn(isGrowing ? null : source);
  const [isSourceWanted, setIsSourceWanted] = useState(false);
  const address = useBlobAddress(drawn && "svg" in drawn ? drawn.svg : null);
  if (address === null || isSourceWanted) {
    return (
      <CodeBlock code={source} language="mermaid" isGrowing={isGrowing}>
        {drawn && !("svg" in drawn) && <span className="text-danger-ink">{t("late" in drawn ? "diagram.late" : "diagram.broken")}</span>}
        {address !== null && (
          <button type="button" className={CAPTION_BUTTON} onClick={() => setIsSourceWanted(false)}>
            {t("diagram.show")}
          </button>
        )}
      </CodeBlock>
    );
  }
  return (
    <figure className="overflow-hidden rounded-xl border border-line">
      <figcaption className="flex h-9 items-center gap-1 border-b border-line pr-1 pl-4 text-xs text-muted">
        <span className="flex-1">{t("diagram.name")}</span>
        <button type="button" className={CAPTION_BUTTON} onClick={() => setIsSourceWanted(true)}>
          {t("diagram.source")}
        </button>
        <CopyButton label={t("diagram.copy")} text={() => source} withWord className="h-7!" />
      </figcaption>
      <div className="overflow-x-auto p-4" tabIndex={0} role="group" aria-label={t("diagram.name")}>
        <img src={address} alt={t("diagram.alt", { kind: source.trim().split(/\s/)[0] })} className="mx-auto h-auto max-w-none md:max-w-full" />
      </div>
    </figure>
  );
}

function useDrawn(source: string | null): Drawn | null {
  const isSystemDark = useMedia("(prefers-color-scheme: dark)");
  const chosen = useTheme();
  const theme = chosen === "system" ? (isSystemDark ? "dark" : "light") : chosen;
  const [drawn, setDrawn] = useState<Drawn | null>(null);
  useEffect(() => {
    if (source === null) return;
    let isGone = false;
    void drawDiagram(source, theme).then((result) => !isGone && setDrawn(result));
    return () => {
      isGone = true;
    };
  }, [source, theme]);
  return drawn;
}

/** As a picture, an SVG runs no script and fetches nothing. */
function useBlobAddress(svg: string | null): string | null {
  const [address, setAddress] = useState<string | null>(null);
  useEffect(() => {
    if (svg === null) return;
    const made = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
    setAddress(made);
    return () => URL.revokeObjectURL(made);
  }, [svg]);
  return svg === null ? null : address;
}
