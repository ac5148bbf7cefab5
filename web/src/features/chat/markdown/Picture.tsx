import { useState } from "react";
import { useTranslation } from "react-i18next";

/** A picture from elsewhere would tell its host who reads what: it becomes a link that one may follow. */
export function Picture({ src, alt }: { src: string; alt: string }) {
  const { t } = useTranslation("chat");
  const [isBroken, setIsBroken] = useState(false);
  if (isOurs(src) && !isBroken) {
    return <img src={src} alt={alt} loading="lazy" decoding="async" onError={() => setIsBroken(true)} className="max-h-128 max-w-full rounded-xl" />;
  }
  const name = alt || t("picture");
  if (src === "" || isOurs(src)) return <span className="text-muted">{name}</span>;
  return (
    <a href={src} target="_blank" rel="noopener noreferrer nofollow" title={t("pictureElsewhere")}>
      {name}
    </a>
  );
}

function isOurs(src: string): boolean {
  if (src.startsWith("data:")) return true;
  try {
    return new URL(src, location.href).origin === location.origin;
  } catch {
    return false;
  }
}
