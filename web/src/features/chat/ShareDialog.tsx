import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { listShares, revokeShare, share, type Share } from "../../protocol/chat";
import { Problem } from "../../protocol/client";
import { Button, IconButton } from "../../ui/Button";
import { CopyButton } from "../../ui/CopyButton";
import { Dialog } from "../../ui/Dialog";
import { Notice } from "../../ui/Notice";
import { problemWords } from "./problemWords";

const keyOf = (conversationId: string) => ["shares", conversationId] as const;

/** Links by which anyone can read what the conversation shows now. */
export function ShareDialog({ conversationId, onClose }: { conversationId: string; onClose: () => void }) {
  const { t } = useTranslation("chat");
  const client = useQueryClient();
  const { data } = useQuery({ queryKey: keyOf(conversationId), queryFn: ({ signal }) => listShares(conversationId, signal), staleTime: 0 });
  const change = (how: (shares: Share[]) => Share[]) =>
    client.setQueryData<{ data: Share[] }>(keyOf(conversationId), (page) => ({ ...page, data: how(page?.data ?? []) }));
  const making = useMutation({
    mutationFn: () => share(conversationId),
    onSuccess: (made) => change((shares) => [made, ...shares]),
  });
  const revoking = useMutation({
    mutationFn: (id: string) => revokeShare(id),
    onSuccess: (_, id) => change((shares) => shares.filter((one) => one.id !== id)),
  });
  const problem = making.error ?? revoking.error;
  return (
    <Dialog title={t("share.title")} onClose={onClose}>
      <p className="mt-2 text-sm text-muted">{t("share.explained")}</p>
      {problem instanceof Problem && (
        <div className="mt-3">
          <Notice>{problemWords(problem, problem.retryAfterS ?? 0)}</Notice>
        </div>
      )}
      <ul className="mt-3 space-y-2 empty:hidden" aria-label={t("share.links")}>
        {data?.data.map((one) => (
          <Link key={one.id} link={one} onRevoke={() => revoking.mutate(one.id)} />
        ))}
      </ul>
      <div className="mt-5 flex justify-end gap-2">
        <Button onClick={onClose}>{t("share.close")}</Button>
        <Button look="primary" disabled={making.isPending} onClick={() => making.mutate()}>
          {t(data?.data.length ? "share.another" : "share.make")}
        </Button>
      </div>
    </Dialog>
  );
}

function Link({ link, onRevoke }: { link: Share; onRevoke: () => void }) {
  const { t, i18n } = useTranslation("chat");
  const made = new Date(link.created_at * 1000).toLocaleString(i18n.language, { dateStyle: "medium", timeStyle: "short" });
  const { url } = link;
  return (
    <li className="flex items-center gap-1 rounded-xl border border-line py-1 ps-3 pe-1">
      <div className="min-w-0 flex-1">
        {url ? (
          <input readOnly value={url} aria-label={t("share.link")} onFocus={({ target }) => target.select()} className="block w-full truncate bg-transparent text-sm" />
        ) : null}
        <p className="text-xs text-muted">{t("share.made", { messages: link.messages, when: made })}</p>
      </div>
      {url && <CopyButton label={t("share.copy")} text={() => url} />}
      <IconButton icon="trash" label={t("share.revoke")} className="size-8!" onClick={onRevoke} />
    </li>
  );
}
