import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { Icon } from "./Icon";

/** The clipboard API exists only in a secure context; a selected text field works everywhere. */
async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "sr-only";
    document.body.append(field);
    field.select();
    const isCopied = document.execCommand("copy");
    field.remove();
    return isCopied;
  }
}

interface CopyButtonProps {
  label: string;
  text: () => string;
  className?: string;
  withWord?: boolean;
}

export function CopyButton({ label, text, className = "", withWord = false }: CopyButtonProps) {
  const { t } = useTranslation();
  const [isCopied, setIsCopied] = useState(false);
  useEffect(() => {
    if (!isCopied) return;
    const timer = setTimeout(() => setIsCopied(false), 1600);
    return () => clearTimeout(timer);
  }, [isCopied]);
  const name = isCopied ? t("copied") : label;
  return (
    <button
      type="button"
      aria-label={name}
      title={name}
      onClick={() => void copy(text()).then(setIsCopied)}
      className={`inline-flex h-8 min-w-8 items-center justify-center gap-1.5 rounded-lg px-1.5 text-muted transition-colors hover:bg-hover hover:text-ink ${className}`}
    >
      <Icon name={isCopied ? "check" : "copy"} className="size-4.5" />
      {withWord && <span className="pe-1 text-xs">{t(isCopied ? "copied" : "copy")}</span>}
    </button>
  );
}
