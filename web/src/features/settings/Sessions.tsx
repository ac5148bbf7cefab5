import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { endOtherSessions, endSession, listSessions } from "../../protocol/account";
import { Button } from "../../ui/Button";
import { deviceOf } from "./device";
import { Failure, Moment, Part, ROW } from "./parts";

const SESSIONS = ["sessions"] as const;

export function Sessions() {
  const { t } = useTranslation("settings");
  const client = useQueryClient();
  const { data, error, refetch } = useQuery({ queryKey: SESSIONS, queryFn: ({ signal }) => listSessions(signal) });
  const onSettled = () => client.invalidateQueries({ queryKey: SESSIONS });
  const end = useMutation({ mutationFn: endSession, onSettled });
  const endOthers = useMutation({ mutationFn: endOtherSessions, onSettled });
  const sessions = data?.data ?? [];
  return (
    <Part title={t("sessions.title")} hint={t("sessions.hint")}>
      <ul>
        {sessions.map((session) => {
          const device = deviceOf(session.user_agent) ?? t("sessions.unknown");
          return (
            <li key={session.id} className={ROW}>
              <span className="min-w-0 flex-1">
                <span className="block font-medium">
                  {device}
                  {session.current && <span className="ms-2 rounded-full bg-accent-soft px-2 py-0.5 text-xs font-medium text-accent">{t("sessions.current")}</span>}
                </span>
                <span className="text-muted">
                  {session.address && <bdi>{session.address} · </bdi>}
                  <Moment at={session.last_seen_at} />
                </span>
              </span>
              {!session.current && (
                <Button aria-label={t("sessions.endNamed", { device })} onClick={() => end.mutate(session.id)}>
                  {t("sessions.end")}
                </Button>
              )}
            </li>
          );
        })}
      </ul>
      {sessions.length > 1 && (
        <Button className="mt-3" onClick={() => endOthers.mutate()}>
          {t("sessions.endOthers")}
        </Button>
      )}
      <Failure error={error ?? end.error ?? endOthers.error} onRetry={() => void refetch()} />
    </Part>
  );
}
