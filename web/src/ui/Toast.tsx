import { useEffect, useSyncExternalStore } from "react";
import { useTranslation } from "react-i18next";
import { IconButton } from "./Button";

interface ToastContent {
  text: string;
  action?: { label: string; run: () => void };
}

const SHOWN_MS = 8000;
let shown: ToastContent | null = null;
const listeners = new Set<() => void>();

/** Says shortly what has happened, perhaps with a way back. One at a time. */
export function showToast(toast: ToastContent | null): void {
  shown = toast;
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function ToastPlace() {
  const { t } = useTranslation();
  const toast = useSyncExternalStore(subscribe, () => shown);
  useEffect(() => {
    if (toast === null) return;
    const timer = setTimeout(() => showToast(null), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [toast]);
  return (
    <div role="status" className="pointer-events-none fixed inset-x-0 bottom-28 z-50 flex justify-center px-4">
      {toast && (
        <div className="pointer-events-auto flex animate-arrive items-center gap-1 rounded-xl border border-line bg-raised py-1.5 ps-4 pe-1.5 text-sm shadow-float">
          <span>{toast.text}</span>
          {toast.action && (
            <button
              type="button"
              onClick={() => {
                toast.action?.run();
                showToast(null);
              }}
              className="h-9 rounded-lg px-3 font-medium text-accent hover:bg-hover"
            >
              {toast.action.label}
            </button>
          )}
          <IconButton icon="close" label={t("close")} onClick={() => showToast(null)} />
        </div>
      )}
    </div>
  );
}
