import { type KeyboardEvent, useEffect, useRef } from "react";
import { useTranslation } from "react-i18next";
import { isRightToLeft } from "../../app/i18n";
import { IconButton } from "../../ui/Button";

export type Side = "earlier" | "later";

interface BranchesProps {
  id: string;
  siblings: readonly string[];
  isDisabled: boolean;
  /** The arrow that led here: it has the focus, so that a keyboard can walk on. */
  cameBy: Side | null;
  onChoose: (messageId: string, side: Side) => void;
}

/** ‹ 2/3 ›: where a message stands among its siblings, and the way to them. */
export function Branches({ id, siblings, isDisabled, cameBy, onChoose }: BranchesProps) {
  const { t } = useTranslation("chat");
  const group = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    if (cameBy) group.current?.querySelector<HTMLButtonElement>(`[data-side=${cameBy}]`)?.focus();
  }, [cameBy]);
  if (siblings.length < 2) return null;
  const at = siblings.indexOf(id);
  const target = { earlier: siblings[at - 1], later: siblings[at + 1] };
  const go = (side: Side) => {
    const to = target[side];
    if (to !== undefined && !isDisabled) onChoose(to, side);
  };
  const onKeyDown = ({ key }: KeyboardEvent) => {
    if (key === "ArrowLeft") go(isRightToLeft() ? "later" : "earlier");
    else if (key === "ArrowRight") go(isRightToLeft() ? "earlier" : "later");
  };
  // Not `disabled`, which would take the focus away from whoever has walked to the end.
  const arrow = (side: Side) => ({
    "data-side": side,
    "aria-disabled": isDisabled || target[side] === undefined,
    className: "size-8! aria-disabled:cursor-default aria-disabled:bg-transparent aria-disabled:text-muted aria-disabled:opacity-40",
    onClick: () => go(side),
  });
  return (
    <span ref={group} role="group" aria-label={t("versions")} onKeyDown={onKeyDown} className="inline-flex items-center text-xs text-muted">
      <IconButton icon="back" label={t("earlierVersion")} {...arrow("earlier")} />
      <span className="px-0.5 tabular-nums">
        {at + 1}/{siblings.length}
      </span>
      <IconButton icon="forth" label={t("laterVersion")} {...arrow("later")} />
    </span>
  );
}
