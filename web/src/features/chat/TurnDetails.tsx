import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { getTurnDetails, type TurnDetails as Details } from "../../protocol/chat";
import { IconButton } from "../../ui/Button";
import { Popover } from "../../ui/Popover";
import { amount, number, seconds } from "./figures";

/** What an answer took: its model, tokens, cost and time. */
export function TurnDetails({ turnId }: { turnId: string }) {
  const { t } = useTranslation("chat");
  return (
    <Popover
      label={t("details.title")}
      button={(opener) => <IconButton icon="info" label={t("details.title")} className="size-8!" {...opener} />}
    >
      {() => <Figures turnId={turnId} />}
    </Popover>
  );
}

function Figures({ turnId }: { turnId: string }) {
  const { t, i18n } = useTranslation("chat");
  const { data, isError } = useQuery({
    queryKey: ["turn details", turnId],
    queryFn: ({ signal }) => getTurnDetails(turnId, signal),
    staleTime: 60_000,
  });
  return (
    <div className="w-72 max-w-[calc(100vw-1rem)] px-4 py-3.5" aria-busy={!data && !isError}>
      <h2 className="text-sm font-semibold">{t("details.title")}</h2>
      {isError && <p className="mt-2 text-sm text-muted">{t("details.unknown")}</p>}
      {data && (
        <dl className="mt-2.5 grid grid-cols-[auto_1fr] gap-x-4 gap-y-1.5 text-[0.8125rem]">
          {rowsOf(data, i18n.language).map(([key, value]) => (
            <div key={key} className="contents">
              <dt className="text-muted">{t(`details.${key}`)}</dt>
              <dd className="text-end wrap-anywhere tabular-nums">{value}</dd>
            </div>
          ))}
        </dl>
      )}
    </div>
  );
}

type Row = ["model" | "input" | "cached" | "output" | "cost" | "firstToken" | "duration" | "time", string];

function rowsOf(turn: Details, language: string): Row[] {
  const rows: Row[] = [["model", turn.model]];
  if (turn.usage) {
    rows.push(["input", number(turn.usage.prompt_tokens, language)]);
    const cached = turn.usage.prompt_tokens_details?.cached_tokens;
    if (cached !== undefined) rows.push(["cached", number(cached, language)]);
    rows.push(["output", number(turn.usage.completion_tokens, language)]);
  }
  if (turn.cost != null) rows.push(["cost", amount(turn.cost, language)]);
  if (turn.time_to_first_token_ms != null) rows.push(["firstToken", seconds(turn.time_to_first_token_ms, language)]);
  if (turn.duration_ms != null) rows.push(["duration", seconds(turn.duration_ms, language)]);
  const at = new Date(turn.created_at * 1000);
  rows.push(["time", at.toLocaleString(language, { dateStyle: "medium", timeStyle: "short" })]);
  return rows;
}
