import { Button } from "../../ui/Button";
import { CopyButton } from "../../ui/CopyButton";
import { Logo } from "../../ui/Icon";

const COMMAND = ".venv/bin/triplane sign-in-link";

export function SignedOut({ onLookAgain }: { onLookAgain: () => void }) {
  return (
    <main className="grid h-full place-items-center overflow-y-auto p-4">
      <div className="w-full max-w-md animate-arrive">
        <Logo className="size-12" />
        <h1 className="mt-6 text-2xl font-semibold tracking-tight">Welcome to Triplane</h1>
        <p className="mt-2 text-muted">You sign in with a one-time link; there is no password.</p>
        <ol className="mt-8 space-y-6">
          <Step number={1}>
            Open the link that <code className="font-mono text-sm">triplane serve</code> printed when it started.
          </Step>
          <Step number={2}>
            Used or gone? On the machine that serves this page, ask for another:
            <span className="mt-2.5 flex items-center justify-between gap-2 rounded-xl border border-line bg-code py-1.5 pr-1.5 pl-3.5">
              <code className="overflow-x-auto font-mono text-[0.84rem] whitespace-nowrap">{COMMAND}</code>
              <CopyButton label="Copy command" text={() => COMMAND} />
            </span>
          </Step>
        </ol>
        <Button className="mt-8" onClick={onLookAgain}>
          I’ve opened the link
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
