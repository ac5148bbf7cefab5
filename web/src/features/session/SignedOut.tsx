import { Trans, useTranslation } from "react-i18next";
import { Button } from "../../ui/Button";
import { CopyButton } from "../../ui/CopyButton";
import { Logo } from "../../ui/Icon";

const COMMAND = ".venv/bin/triplane sign-in-link";

export function SignedOut({ onLookAgain }: { onLookAgain: () => void }) {
  const { t } = useTranslation();
  return (
    <main className="grid h-full place-items-center overflow-y-auto p-4">
      <div className="w-full max-w-md animate-arrive">
        <Logo className="size-12" />
        <h1 className="mt-6 text-2xl font-semibold tracking-tight">{t("signedOut.welcome")}</h1>
        <p className="mt-2 text-muted">{t("signedOut.how")}</p>
        <ol className="mt-8 space-y-6">
          <Step number={1}>
            <Trans t={t} i18nKey="signedOut.open" components={{ code: <code dir="ltr" className="font-mono text-sm" /> }} />
          </Step>
          <Step number={2}>
            {t("signedOut.another")}
            <span dir="ltr" className="mt-2.5 flex items-center justify-between gap-2 rounded-xl border border-line bg-code py-1.5 ps-3.5 pe-1.5">
              <code className="overflow-x-auto font-mono text-[0.84rem] whitespace-nowrap">{COMMAND}</code>
              <CopyButton label={t("signedOut.copyCommand")} text={() => COMMAND} />
            </span>
          </Step>
        </ol>
        <Button className="mt-8" onClick={onLookAgain}>
          {t("signedOut.lookAgain")}
        </Button>
      </div>
    </main>
  );
}

function Step({ number, children }: { number: number; children: React.ReactNode }) {
  return (
    <li className="flex gap-4">
      <span aria-hidden="true" className="grid size-7 shrink-0 place-items-center rounded-full bg-accent-soft text-sm font-medium text-accent">
        {number}
      </span>
      <div className="min-w-0 flex-1 pt-0.5">{children}</div>
    </li>
  );
}
