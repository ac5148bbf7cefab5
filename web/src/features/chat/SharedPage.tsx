/** A conversation that someone has shared: read, and nothing else. Needs no sign-in. */

import { useQuery } from "@tanstack/react-query";
import { lazy, useEffect } from "react";
import { useTranslation } from "react-i18next";
import { readShared, type SharedConversation } from "../../protocol/chat";
import { Problem } from "../../protocol/client";
import { textOf } from "../../protocol/wire";
import { Button } from "../../ui/Button";
import { CopyButton } from "../../ui/CopyButton";
import { Late } from "../../ui/Late";
import { Logo } from "../../ui/Icon";
import { Notice } from "../../ui/Notice";
import { problemWords } from "./problemWords";

const Markdown = lazy(() => import("./markdown/Markdown"));

export default function SharedPage({ secret }: { secret: string }) {
  const { t } = useTranslation("chat");
  const { data, error, refetch } = useQuery({
    queryKey: ["shared", secret],
    queryFn: ({ signal }) => readShared(secret, signal),
    staleTime: Number.POSITIVE_INFINITY,
  });
  const title = data?.title || t("shared.untitled");
  useEffect(() => {
    document.title = `${title} · Triplane`;
  }, [title]);
  return (
    <div className="h-dvh overflow-y-auto">
      <header className="mx-auto flex h-14 w-full max-w-3xl items-center gap-2.5 px-4 md:px-6">
        <Logo className="size-6" />
        <p className="min-w-0 flex-1 truncate text-sm text-muted">{t("shared.notice")}</p>
        <a href="/" className="text-sm font-medium text-accent hover:underline">
          {t("shared.own")}
        </a>
      </header>
      <main className="mx-auto w-full max-w-3xl px-4 pt-6 pb-16 md:px-6">
        {data && <Shared title={title} shared={data} />}
        {error instanceof Problem && (
          <Notice actions={error.status === 404 ? undefined : <Button onClick={() => void refetch()}>{t("shared.again")}</Button>}>
            {error.status === 404 ? t("shared.gone") : problemWords(error, error.retryAfterS ?? 0)}
          </Notice>
        )}
      </main>
    </div>
  );
}

function Shared({ title, shared }: { title: string; shared: SharedConversation }) {
  const { t, i18n } = useTranslation("chat");
  const made = new Date(shared.created_at * 1000);
  return (
    <>
      <h1 className="text-2xl font-semibold tracking-tight text-balance">{title}</h1>
      <p className="mt-1 text-sm text-muted">
        <time dateTime={made.toISOString()}>{made.toLocaleDateString(i18n.language, { dateStyle: "long" })}</time>
      </p>
      <div className="mt-8 flex flex-col gap-8">
        {shared.messages.map((message, index) => {
          const text = textOf(message.content);
          const isLate = index > 6 ? "lay-out-late" : "";
          if (message.role === "user") {
            return (
              <article key={index} className={`flex flex-col items-end ${isLate}`}>
                <h2 className="sr-only">{t("shared.asked")}</h2>
                <div dir="auto" className="max-w-[85%] rounded-3xl rounded-ee-lg bg-bubble px-4 py-2.5 leading-relaxed wrap-anywhere whitespace-pre-wrap">
                  {text}
                </div>
              </article>
            );
          }
          if (message.role !== "assistant") return null;
          const plain = <div className="prose whitespace-pre-wrap">{text}</div>;
          return (
            <article key={index} className={isLate}>
              <h2 className="sr-only">{t("triplaneSaid")}</h2>
              <Late meanwhile={plain} instead={plain}>
                <Markdown name={`shared-${index}`} text={text} isGrowing={false} />
              </Late>
              <div className="mt-2 -ms-1.5 flex items-center gap-2 text-xs text-muted">
                <CopyButton label={t("copyAnswer")} text={() => text} />
                {message.model && <span className="truncate">{message.model}</span>}
              </div>
            </article>
          );
        })}
      </div>
    </>
  );
}
