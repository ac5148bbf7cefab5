import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { navigate, pathOf } from "../../app/router";
import { listAllShares } from "../../protocol/account";
import { revokeShare } from "../../protocol/chat";
import { Button } from "../../ui/Button";
import { Failure, Moment, Part, ROW } from "./parts";

const SHARES = ["shares"] as const;

export function Shares() {
  const { t } = useTranslation(["settings", "app"]);
  const client = useQueryClient();
  const { data, error, refetch } = useQuery({ queryKey: SHARES, queryFn: ({ signal }) => listAllShares(signal) });
  const revoke = useMutation({ mutationFn: revokeShare, onSettled: () => client.invalidateQueries({ queryKey: SHARES }) });
  const shares = data?.data ?? [];
  return (
    <Part title={t("shares.title")} hint={t("shares.hint")}>
      {data && shares.length === 0 && <p className="text-muted">{t("shares.none")}</p>}
      <ul>
        {shares.map((one) => {
          const title = one.title ?? t("app:newChat");
          return (
            <li key={one.id} className={ROW}>
              <span className="min-w-0 flex-1">
                <button type="button" onClick={() => navigate(pathOf(one.conversation_id))} className="block max-w-full truncate text-start font-medium hover:underline">
                  {title}
                </button>
                <span className="text-muted">
                  <Moment at={one.created_at} />
                </span>
              </span>
              <Button aria-label={t("shares.revokeNamed", { title })} onClick={() => revoke.mutate(one.id)}>
                {t("keys.revoke")}
              </Button>
            </li>
          );
        })}
      </ul>
      <Failure error={error ?? revoke.error} onRetry={() => void refetch()} />
    </Part>
  );
}
