import { Component, type ReactNode, Suspense } from "react";
import { useTranslation } from "react-i18next";
import { Button } from "./Button";
import { Notice } from "./Notice";

interface LateProps {
  /** Stands in until the part is there. */
  meanwhile?: ReactNode;
  /** Stands in where it can't be had; else a notice says so. */
  instead?: ReactNode;
  children: ReactNode;
}

/** A part of the page that is fetched when it is wanted. Offline, or after a new version was set up, it may be missing. */
export function Late({ meanwhile = null, instead = <Missing />, children }: LateProps) {
  return (
    <Boundary instead={instead}>
      <Suspense fallback={meanwhile}>{children}</Suspense>
    </Boundary>
  );
}

class Boundary extends Component<{ instead: ReactNode; children: ReactNode }, { isBroken: boolean }> {
  override state = { isBroken: false };

  static getDerivedStateFromError() {
    return { isBroken: true };
  }

  override render() {
    return this.state.isBroken ? this.props.instead : this.props.children;
  }
}

function Missing({ onClose }: { onClose?: () => void }) {
  const { t } = useTranslation();
  const actions = (
    <>
      {onClose && <Button onClick={onClose}>{t("close")}</Button>}
      <Button onClick={() => location.reload()}>{t("reload")}</Button>
    </>
  );
  return (
    <div className="m-4">
      <Notice actions={actions}>{t("partMissing")}</Notice>
    </div>
  );
}

/** For a part that opens above the page. */
export function MissingAbove({ onClose }: { onClose: () => void }) {
  return (
    <div className="fixed inset-x-0 top-12 z-50 mx-auto max-w-lg text-ink">
      <Missing onClose={onClose} />
    </div>
  );
}
