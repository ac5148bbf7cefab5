import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { useDeferredValue } from "react";
import { useTranslation } from "react-i18next";
import { isPlainClick } from "../../app/link";
import { navigate, pathOf } from "../../app/router";
import { type SearchHit, type Segment, search } from "../../protocol/history";
import { Button } from "../../ui/Button";

export function useSearch(words: string) {
  const wanted = useDeferredValue(words.trim());
  return useInfiniteQuery({
    queryKey: ["search", wanted],
    queryFn: ({ pageParam, signal }) => search(wanted, pageParam, signal),
    initialPageParam: null as string | null,
    getNextPageParam: ({ next }) => next,
    enabled: wanted !== "",
    placeholderData: keepPreviousData,
    select: ({ pages }) => pages.flatMap(({ data }) => data),
  });
}

/** Where a hit opens: at its message, if it is in one. */
export const placeOf = ({ conversation_id, message_id }: SearchHit): string =>
  pathOf(conversation_id) + (message_id === null ? "" : `#${message_id}`);

export function SearchResults({ words, onChosen }: { words: string; onChosen: () => void }) {
  const { t } = useTranslation(["history", "app"]);
  const { data, error, hasNextPage, fetchNextPage, refetch } = useSearch(words);
  if (error) {
    return (
      <div className="px-3 pt-3 text-sm text-muted">
        <p>{t("unreadable")}</p>
        <Button className="mt-2" onClick={() => void refetch()}>
          {t("app:retry")}
        </Button>
      </div>
    );
  }
  if (!data) return null;
  return (
    <>
      <p role="status" className="px-3 pt-3 pb-1 text-xs font-medium text-muted">
        {t("found", { count: data.length })}
      </p>
      <ul aria-label={t("results")}>
        {data.map((hit) => (
          <li key={hit.conversation_id}>
            <a
              href={placeOf(hit)}
              onClick={(event) => {
                if (!isPlainClick(event)) return;
                event.preventDefault();
                navigate(placeOf(hit));
                onChosen();
              }}
              className="block min-h-11 rounded-lg px-3 py-2 text-sm hover:bg-hover"
            >
              <span dir="auto" className="line-clamp-1 font-medium">
                <Segments of={hit.title} />
              </span>
              {hit.message_id !== null && (
                <span dir="auto" className="mt-0.5 line-clamp-2 text-muted">
                  <Segments of={hit.snippet} />
                </span>
              )}
            </a>
          </li>
        ))}
      </ul>
      {hasNextPage && (
        <button type="button" onClick={() => void fetchNextPage()} className="mt-2 h-11 w-full rounded-lg text-sm text-muted hover:bg-hover">
          {t("showMore")}
        </button>
      )}
    </>
  );
}

export function Segments({ of }: { of: readonly Segment[] }) {
  if (of.length === 0) return <>{"…"}</>;
  return of.map(({ text, hit }, index) => (hit ? <mark key={index}>{text}</mark> : <span key={index}>{text}</span>));
}
