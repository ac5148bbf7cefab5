import { type KeyboardEvent, type ReactNode, type Ref, useEffect, useLayoutEffect, useRef, useState } from "react";
import { createPortal } from "react-dom";
import { isRightToLeft } from "../app/i18n";

interface PopoverProps {
  /** Names the panel. */
  label: string;
  /** A menu has nothing but its items, and Tab leaves it. */
  role?: "dialog" | "menu";
  button: (opener: OpenerProps) => ReactNode;
  className?: string;
  children: (close: () => void) => ReactNode;
}

export interface OpenerProps {
  ref: Ref<HTMLButtonElement>;
  onClick: () => void;
  "aria-haspopup": "dialog" | "menu";
  "aria-expanded": boolean;
}

/** A panel beside the button that opens it: arrow keys go through its items; Esc and a click outside close it, and give the focus back. */
export function Popover({ label, role = "dialog", button, className = "", children }: PopoverProps) {
  const opener = useRef<HTMLButtonElement>(null);
  const [anchor, setAnchor] = useState<DOMRect | null>(null);
  const close = () => {
    setAnchor(null);
    opener.current?.focus();
  };
  const onClick = () => setAnchor(anchor ? null : (opener.current?.getBoundingClientRect() ?? null));
  return (
    <>
      {button({ ref: opener, onClick, "aria-haspopup": role, "aria-expanded": anchor !== null })}
      {anchor &&
        createPortal(
          <Panel label={label} role={role} anchor={anchor} opener={opener.current} className={className} onClose={close}>
            {children(close)}
          </Panel>,
          document.body,
        )}
    </>
  );
}

interface PanelProps {
  label: string;
  role: "dialog" | "menu";
  anchor: DOMRect;
  opener: HTMLElement | null;
  className: string;
  onClose: () => void;
  children: ReactNode;
}

const MARGIN = 8;

function Panel({ label, role, anchor, opener, className, onClose, children }: PanelProps) {
  const panel = useRef<HTMLDivElement>(null);
  const [place, setPlace] = useState({ left: MARGIN, top: 0 });

  useLayoutEffect(() => {
    const element = panel.current;
    if (!element) return;
    const settle = () => {
      const { offsetWidth: width, offsetHeight: height } = element;
      const left = isRightToLeft() ? anchor.right - width : anchor.left;
      const hasRoomBelow = anchor.bottom + 6 + height <= innerHeight - MARGIN;
      setPlace({
        left: Math.max(MARGIN, Math.min(left, innerWidth - width - MARGIN)),
        top: Math.max(MARGIN, hasRoomBelow ? anchor.bottom + 6 : anchor.top - 6 - height),
      });
    };
    settle();
    const sizes = new ResizeObserver(settle);
    sizes.observe(element);
    (element.querySelector<HTMLElement>("[data-autofocus]") ?? element).focus({ preventScroll: true });
    return () => sizes.disconnect();
  }, [anchor]);

  useEffect(() => {
    const onPointerDown = ({ target }: PointerEvent) => {
      if (!panel.current?.contains(target as Node) && !opener?.contains(target as Node)) onClose();
    };
    document.addEventListener("pointerdown", onPointerDown);
    return () => document.removeEventListener("pointerdown", onPointerDown);
  });

  function onKeyDown(event: KeyboardEvent) {
    if (event.key === "Escape" || (event.key === "Tab" && role === "menu")) {
      event.preventDefault();
      event.stopPropagation();
      onClose();
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const rows = [...(panel.current?.querySelectorAll<HTMLElement>("[role^=menuitem]") ?? [])];
      if (rows.length === 0) return;
      event.preventDefault();
      const at = rows.indexOf(document.activeElement as HTMLElement);
      rows[(at + (event.key === "ArrowDown" ? 1 : rows.length - 1)) % rows.length]?.focus();
    }
  }

  return (
    <div
      ref={panel}
      role={role}
      aria-label={label}
      tabIndex={-1}
      onKeyDown={onKeyDown}
      // Whoever tabs out of it is done with it.
      onBlur={({ relatedTarget }) => relatedTarget && !panel.current?.contains(relatedTarget) && relatedTarget !== opener && onClose()}
      style={place}
      className={`fixed z-50 max-h-[min(32rem,calc(100dvh-1rem))] max-w-[calc(100vw-1rem)] animate-arrive overflow-y-auto rounded-2xl border border-line bg-raised shadow-float outline-none ${className}`}
    >
      {children}
    </div>
  );
}
