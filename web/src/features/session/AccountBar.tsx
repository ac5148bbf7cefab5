import { useTranslation } from "react-i18next";
import { setTheme, type Theme, useTheme } from "../../app/theme";
import type { User } from "../../protocol/wire";
import { IconButton } from "../../ui/Button";
import type { IconName } from "../../ui/Icon";
import { useSignOut } from "./session";

const THEMES: { theme: Theme; icon: IconName }[] = [
  { theme: "system", icon: "system" },
  { theme: "light", icon: "sun" },
  { theme: "dark", icon: "moon" },
];

export function AccountBar({ me }: { me: User }) {
  const { t } = useTranslation();
  const theme = useTheme();
  const signOut = useSignOut();
  const at = THEMES.findIndex((one) => one.theme === theme);
  const shown = THEMES[at] ?? THEMES[0]!;
  const next = THEMES[(at + 1) % THEMES.length]!;
  return (
    <div className="flex items-center gap-1 border-t border-line p-2 pb-[max(0.5rem,env(safe-area-inset-bottom))]">
      <span className="flex min-w-0 flex-1 items-center gap-2.5 ps-1.5 text-sm">
        <span aria-hidden="true" className="grid size-7 shrink-0 place-items-center rounded-full bg-accent-soft text-xs font-semibold text-accent uppercase">
          {me.name.slice(0, 1)}
        </span>
        <span className="truncate">{me.name}</span>
      </span>
      <IconButton icon={shown.icon} label={t(`theme.${shown.theme}`)} onClick={() => setTheme(next.theme)} />
      <IconButton icon="signOut" label={t("signOut")} onClick={() => signOut.mutate()} disabled={signOut.isPending} />
    </div>
  );
}
