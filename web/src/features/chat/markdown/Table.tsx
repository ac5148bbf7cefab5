import { type ReactNode, useRef } from "react";
import { useTranslation } from "react-i18next";
import { CopyButton } from "../../../ui/CopyButton";
import { csvOf } from "./csv";

/** A wide table scrolls in a box of its own. */
export function Table({ children }: { children: ReactNode }) {
  const { t } = useTranslation("chat");
  const table = useRef<HTMLTableElement>(null);
  const csv = () =>
    csvOf([...(table.current?.rows ?? [])].map((row) => [...row.cells].map(({ textContent }) => textContent.trim())));
  return (
    <div className="group/table">
      <div className="table-scroll" tabIndex={0} role="group" aria-label={t("table")}>
        <table ref={table}>{children}</table>
      </div>
      <div className="quiet mt-1 -ml-1.5 group-hover/table:opacity-100">
        <CopyButton label={t("copyCsv")} text={csv} withWord className="h-7!" />
      </div>
    </div>
  );
}
