import { useTranslation } from "react-i18next";
import { Logo } from "../../ui/Icon";

const SUGGESTIONS = ["explain", "draft", "code", "plan"] as const;

export function EmptyState({ onPick }: { onPick: (text: string) => void }) {
  const { t } = useTranslation("chat");
  return (
    <div className="mx-auto flex w-full flex-1 max-w-3xl flex-col items-center justify-center px-4 py-8">
      <Logo className="size-11" />
      <h1 className="mt-5 text-center text-2xl font-semibold tracking-tight text-balance md:text-[1.75rem]">{t("heading")}</h1>
      <ul aria-label={t("suggestions")} className="mt-8 grid w-full gap-2.5 sm:grid-cols-2">
        {SUGGESTIONS.map((name) => (
          <li key={name}>
            <button
              type="button"
              onClick={() => onPick(t(`suggestion.${name}.text`))}
              className="flex h-full w-full flex-col justify-start rounded-2xl border border-line px-4 py-3 text-start text-sm transition-colors hover:border-line-strong hover:bg-raised"
            >
              <span className="block font-medium">{t(`suggestion.${name}.title`)}</span>
              <span className="mt-0.5 block text-muted">{t(`suggestion.${name}.text`)}</span>
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
