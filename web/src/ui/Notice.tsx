import type { ReactNode } from "react";
import { Icon } from "./Icon";

/** A problem in words, with what one can do about it beside. */
export function Notice({ children, actions }: { children: ReactNode; actions?: ReactNode }) {
  return (
    <div role="alert" className="flex flex-wrap items-center gap-x-3 gap-y-2 rounded-xl border border-line bg-notice px-3.5 py-2.5 text-sm">
      <Icon name="warning" className="size-4.5 text-danger-ink" />
      <p className="min-w-48 flex-1">{children}</p>
      {actions && <div className="flex gap-2">{actions}</div>}
    </div>
  );
}
