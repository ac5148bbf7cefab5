import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { createKey, listKeys, revokeKey } from "../../protocol/account";
import { Button } from "../../ui/Button";
import { CopyButton } from "../../ui/CopyButton";
import { Failure, Moment, Part, ROW } from "./parts";

const KEYS = ["api keys"] as const;

export function ApiKeys() {
  const { t } = useTranslation("settings");
  const client = useQueryClient();
  const { data, error, refetch } = useQuery({ queryKey: KEYS, queryFn: ({ signal }) => listKeys(signal) });
  const onSettled = () => client.invalidateQueries({ queryKey: KEYS });
  const create = useMutation({ mutationFn: createKey, onSettled });
  const revoke = useMutation({ mutationFn: revokeKey, onSettled });
  const [name, setName] = useState("");
  const keys = (data?.data ?? []).filter(({ revoked_at }) => revoked_at === null);
  return (
    <Part title={t("keys.title")} hint={t("keys.hint")}>
      <form
        className="flex flex-wrap gap-2"
        onSubmit={(event) => {
          event.preventDefault();
          create.mutate(name.trim(), { onSuccess: () => setName("") });
        }}
      >
        <input aria-label={t("keys.name")} placeholder={t("keys.name")} required maxLength={100} value={name} onChange={(event) => setName(event.target.value)} className="field w-auto! min-w-0 flex-1" />
        <Button look="primary" type="submit" className="h-11!" disabled={name.trim() === "" || create.isPending}>
          {t("keys.create")}
        </Button>
      </form>
      <div role="status">
        {create.data && (
          <div className="mt-3 rounded-xl border border-accent bg-accent-soft px-4 py-3">
            <p>{t("keys.once")}</p>
            <p className="mt-2 flex items-center gap-2">
              <code dir="ltr" className="min-w-0 flex-1 font-mono break-all">
                {create.data.key}
              </code>
              <CopyButton label={t("keys.copy")} text={() => create.data.key} />
            </p>
          </div>
        )}
      </div>
      <ul className="mt-4">
        {keys.map((key) => (
          <li key={key.id} className={ROW}>
            <span className="min-w-0 flex-1">
              <span className="block truncate font-medium">{key.name}</span>
              <span className="text-muted">
                <code dir="ltr" className="font-mono">{key.prefix}…</code>
                {" · "}
                {key.last_used_at === null ? t("keys.unused") : <Moment at={key.last_used_at} />}
              </span>
            </span>
            <Button aria-label={t("keys.revokeNamed", { name: key.name })} onClick={() => revoke.mutate(key.id)}>
              {t("keys.revoke")}
            </Button>
          </li>
        ))}
      </ul>
      <Failure error={error ?? create.error ?? revoke.error} onRetry={() => void refetch()} />
    </Part>
  );
}
