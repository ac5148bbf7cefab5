import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { readUsage } from "../../protocol/account";
import { amount, number } from "../chat/figures";
import { BarChart } from "./BarChart";
import { Choices, Failure, Part } from "./parts";
import { byDay, byModel, lastDays } from "./usage";

const SPANS = ["7", "30", "90"] as const;

export function Usage() {
  const { t, i18n } = useTranslation("settings");
  const [span, setSpan] = useState<(typeof SPANS)[number]>("30");
  const days = lastDays(Number(span), Date.now());
  const from = days[0] ?? "";
  const to = days.at(-1) ?? "";
  const { data, error, refetch } = useQuery({ queryKey: ["usage", from, to], queryFn: ({ signal }) => readUsage(from, to, signal) });
  const lines = data?.data ?? [];
  const perDay = byDay(lines, days);
  const perModel = byModel(lines);
  const language = i18n.language;
  const dayName = (date: string) => new Date(`${date}T00:00Z`).toLocaleDateString(language, { day: "numeric", month: "short", timeZone: "UTC" });
  return (
    <Part title={t("usage.title")} hint={t("usage.hint")}>
      <Choices name="span" legend={t("usage.span")} value={span} options={SPANS.map((value) => ({ value, label: t("usage.days", { count: Number(value) }) }))} onChange={setSpan} />
      <Failure error={error} onRetry={() => void refetch()} />
      {data && (
        <>
          <div className="mt-6 grid gap-6 lg:grid-cols-2">
            <BarChart label={t("usage.tokensByDay")} bars={perDay.map(({ date, tokens }) => ({ name: dayName(date), value: tokens }))} format={(value) => number(value, language)} />
            <BarChart label={t("usage.costByDay")} bars={perDay.map(({ date, cost }) => ({ name: dayName(date), value: cost }))} format={(value) => amount(value, language)} />
          </div>
          <Table
            caption={t("usage.byModel")}
            head={[t("usage.model"), t("usage.requests"), t("usage.tokens"), t("usage.cost")]}
            rows={perModel.map(({ model, requests, tokens, cost }) => [model, number(requests, language), number(tokens, language), amount(cost, language)])}
          />
          <details className="mt-4">
            <summary className="min-h-11 cursor-pointer py-2.5 text-muted">{t("usage.byDay")}</summary>
            <Table
              caption={t("usage.byDay")}
              head={[t("usage.day"), t("usage.tokens"), t("usage.cost")]}
              rows={perDay.map(({ date, tokens, cost }) => [dayName(date), number(tokens, language), amount(cost, language)])}
            />
          </details>
        </>
      )}
    </Part>
  );
}

function Table({ caption, head, rows }: { caption: string; head: readonly string[]; rows: readonly (readonly string[])[] }) {
  return (
    <div className="mt-6 overflow-x-auto" tabIndex={0} role="group" aria-label={caption}>
      <table className="w-full tabular-nums">
        <caption className="pb-2 text-start font-medium">{caption}</caption>
        <thead>
          <tr className="border-b border-line-strong text-muted">
            {head.map((name, index) => (
              <th key={name} scope="col" className={`py-2 font-medium ${index === 0 ? "text-start" : "ps-4 text-end"}`}>
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(([name, ...cells]) => (
            <tr key={name} className="border-b border-line">
              <th scope="row" className="py-2 text-start font-normal">
                {name}
              </th>
              {cells.map((cell, index) => (
                <td key={index} className="py-2 ps-4 text-end">
                  {cell}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
