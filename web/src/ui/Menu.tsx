import { type KeyboardEvent, useEffect, useLayoutEffect, useRef, useState } from "react";
import { createPortal } from "react-dom";
import { isRightToLeft } from "../app/i18n";
import { IconButton } from "./Button";
import { Icon, type IconName } from "./Icon";

export interface MenuItem {
  icon: IconName;
  label: string;
  onSelect: () => void;
  isDanger?: boolean;
}

interface MenuProps {
  label: string;
  items: MenuItem[];
  className?: string;
}

/** A "more" button with a menu: arrow keys move, Enter chooses, Esc and a click outside close. */
export function Menu({ label, items, className = "" }: MenuProps) {
  const [anchor, setAnchor] = useState<DOMRect | null>(null);
  const button = useRef<HTMLButtonElement>(null);
  const close = () => {
    setAnchor(null);
    button.current?.focus();
  };
  return (
    <>
      <IconButton
        ref={button}
        icon="more"
        label={label}
        aria-haspopup="menu"
        aria-expanded={anchor !== null}
        className={`size-8! ${className}`}
        onClick={(event) => setAnchor(anchor ? null : event.currentTarget.getBoundingClientRect())}
      />
      {anchor && createPortal(<MenuPanel label={label} items={items} anchor={anchor} onClose={close} />, document.body)}
    </>
  );
}

type MenuPanelProps = Omit<MenuProps, "className"> & { anchor: DOMRect; onClose: () => void };

function MenuPanel({ label, items, anchor, onClose }: MenuPanelProps) {
  const panel = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(anchor.bottom + 4);
  const rows = () => [...(panel.current?.querySelectorAll<HTMLButtonElement>("[role=menuitem]") ?? [])];

  useLayoutEffect(() => {
    const height = panel.current?.offsetHeight ?? 0;
    if (anchor.bottom + 4 + height > innerHeight) setTop(anchor.top - 4 - height);
    rows()[0]?.focus();
  }, [anchor]);

  useEffect(() => {
    const onPointerDown = (event: PointerEvent) => {
      if (!panel.current?.contains(event.target as Node)) onClose();
    };
    document.addEventListener("pointerdown", onPointerDown);
    return () => document.removeEventListener("pointerdown", onPointerDown);
  });

  function onKeyDown(event: KeyboardEvent) {
    const all = rows();
    const at = all.indexOf(document.activeElement as HTMLButtonElement);
    if (event.key === "Escape" || event.key === "Tab") {
      event.preventDefault();
      event.stopPropagation();
      onClose();
    } else if (event.key === "ArrowDown") all[(at + 1) % all.length]?.focus();
    else if (event.key === "ArrowUp") all[(at + all.length - 1) % all.length]?.focus();
  }

  return (
    <div
      ref={panel}
      role="menu"
      aria-label={label}
      onKeyDown={onKeyDown}
      style={{ top, left: Math.max(8, Math.min(isRightToLeft() ? anchor.right - 176 : anchor.left, innerWidth - 184)) }}
      className="fixed z-50 min-w-44 max-w-72 max-h-[80dvh] overflow-y-auto rounded-xl border border-line bg-raised p-1 shadow-float"
    >
      {items.map((item) => (
        <button
          key={item.label}
          type="button"
          role="menuitem"
          onClick={() => {
            onClose();
            item.onSelect();
          }}
          className={`flex h-9 w-full whitespace-nowrap pointer-coarse:h-11 items-center gap-2.5 rounded-lg px-2.5 text-sm hover:bg-hover focus-visible:bg-hover ${item.isDanger ? "text-danger-ink" : ""}`}
        >
          <Icon name={item.icon} className="size-4.5" />
          {item.label}
        </button>
      ))}
    </div>
  );
}
