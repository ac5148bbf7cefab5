import { useState } from "react";
import { useTranslation } from "react-i18next";
import { canNotify, notificationsWanted, wantNotifications } from "../../app/notifications";
import { Part } from "./parts";

export function Notifications() {
  const { t } = useTranslation("settings");
  const [isOn, setIsOn] = useState(notificationsWanted);
  const [isRefused, setIsRefused] = useState(false);
  async function turn(on: boolean) {
    const isGranted = await wantNotifications(on);
    setIsOn(on && isGranted);
    setIsRefused(on && !isGranted);
  }
  return (
    <Part title={t("notify.title")} hint={t("notify.hint")}>
      <label className="flex min-h-11 items-center gap-3">
        <input type="checkbox" role="switch" checked={isOn} disabled={!canNotify()} onChange={(event) => void turn(event.target.checked)} className="size-5 accent-accent" />
        {t("notify.switch")}
      </label>
      <p role="status" className="text-muted">
        {!canNotify() ? t("notify.impossible") : isRefused ? t("notify.refused") : ""}
      </p>
    </Part>
  );
}
