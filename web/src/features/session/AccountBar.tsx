import { useTranslation } from "react-i18next";
import { useCommands } from "../../app/commands";
import { isPlainClick } from "../../app/link";
import { navigate } from "../../app/router";
import { setTheme, type Theme, useTheme } from "../../app/theme";
import type { User } from "../../protocol/wire";
import { IconButton } from "../../ui/Button";
import { useChangeSettings } from "../settings/settings";
import { Icon, type IconName } from "../../ui/Icon";
import { useSignOut } from "./session";

const THEMES: { theme: Theme; icon: IconName }[] = [
  { theme: "system", icon: "system" },
  { theme: "light", icon: "sun" },
  { theme: "dark", icon: "moon" },
];

export function AccountBar({ me, onChosen }: { me: User; onChosen: () => void }) {
  const { t } = useTranslation();
  const theme = useTheme();
  const signOut = useSignOut();
  const change = useChangeSettings();
  const at = THEMES.findIndex((one) => one.theme === theme);
  const shown = THEMES[at] ?? THEMES[0]!;
  const next = THEMES[(at + 1) % THEMES.length]!;
  const changeTheme = () => {
    setTheme(next.theme);
    change.mutate({ theme: next.theme });
  };
  useCommands({ theme: changeTheme, signOut: () => signOut.mutate() });
  return (
    <div className="flex items-center gap-1 border-t border-line p-2 pb-[max(0.5rem,env(safe-area-inset-bottom))]">
      <a
        href="/settings/appearance"
        title={t("settings")}
        onClick={(event) => isPlainClick(event) && (event.preventDefault(), navigate("/settings/appearance"), onChosen())}
        className="flex min-h-9 min-w-0 flex-1 items-center gap-2.5 rounded-lg px-1.5 text-sm hover:bg-hover pointer-coarse:min-h-11"
      >
        <span aria-hidden="true" className="grid size-7 shrink-0 place-items-center rounded-full bg-accent-soft text-xs font-semibold text-accent uppercase">
          {me.name.slice(0, 1)}
        </span>
        <span className="min-w-0 flex-1 truncate">{me.name}</span>
        <Icon name="gear" className="size-5 text-muted" />
        <span className="sr-only">{t("settings")}</span>
      </a>
      <IconButton icon={shown.icon} label={t(`theme.${shown.theme}`)} onClick={changeTheme} />
      <IconButton icon="signOut" label={t("signOut")} onClick={() => signOut.mutate()} disabled={signOut.isPending} />
    </div>
  );
}
