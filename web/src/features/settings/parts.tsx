/** What the sections of the settings are made of. */

import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Button } from "../../ui/Button";
import { Notice } from "../../ui/Notice";

export function Part({ title, hint, children }: { title: string; hint?: string; children: ReactNode }) {
  return (
    <section className="border-t border-line py-6 first:border-0 first:pt-0">
      <h3 className="font-medium">{title}</h3>
      {hint && <p className="mt-1 text-sm text-muted">{hint}</p>}
      <div className="mt-3 text-sm">{children}</div>
    </section>
  );
}

interface ChoicesProps<T extends string> {
  name: string;
  legend: string;
  value: T;
  options: readonly { value: T; label: string; lang?: string }[];
  onChange: (value: T) => void;
}

export function Choices<T extends string>({ name, legend, value, options, onChange }: ChoicesProps<T>) {
  return (
    <fieldset>
      <legend className="sr-only">{legend}</legend>
      <div className="flex flex-wrap gap-2">
        {options.map((option) => (
          <label
            key={option.value}
            lang={option.lang}
            className="flex min-h-11 items-center gap-2.5 rounded-xl border border-line px-3.5 has-checked:border-accent has-checked:bg-accent-soft hover:border-line-strong"
          >
            <input type="radio" name={name} checked={option.value === value} onChange={() => onChange(option.value)} className="size-4 accent-accent" />
            {option.label}
          </label>
        ))}
      </div>
    </fieldset>
  );
}

export function Failure({ error, onRetry }: { error: Error | null; onRetry?: () => void }) {
  const { t } = useTranslation();
  if (error === null) return null;
  return (
    <div className="mt-3">
      <Notice actions={onRetry && <Button onClick={onRetry}>{t("retry")}</Button>}>{t("failed", { reason: error.message })}</Notice>
    </div>
  );
}

export const ROW = "flex flex-wrap items-center gap-x-4 gap-y-1 border-t border-line py-3 first:border-0";

/** `at` in Unix seconds. */
export function Moment({ at }: { at: number }) {
  const { i18n } = useTranslation();
  const date = new Date(at * 1000);
  return <time dateTime={date.toISOString()}>{date.toLocaleString(i18n.language, { dateStyle: "medium", timeStyle: "short" })}</time>;
}
