import { IconButton } from "./Button";
import { Icon, type IconName } from "./Icon";
import { Popover } from "./Popover";

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

/** A "more" button with a menu. */
export function Menu({ label, items, className = "" }: MenuProps) {
  return (
    <Popover
      label={label}
      role="menu"
      className="min-w-44 p-1"
      button={(opener) => <IconButton icon="more" label={label} className={`size-8! ${className}`} {...opener} />}
    >
      {(close) =>
        items.map((item, index) => (
          <button
            key={item.label}
            type="button"
            role="menuitem"
            data-autofocus={index === 0 ? "" : undefined}
            onClick={() => {
              close();
              item.onSelect();
            }}
            className={`flex h-9 w-full whitespace-nowrap pointer-coarse:h-11 items-center gap-2.5 rounded-xl px-2.5 text-sm hover:bg-hover focus-visible:bg-hover ${item.isDanger ? "text-danger-ink" : ""}`}
          >
            <Icon name={item.icon} className="size-4.5" />
            {item.label}
          </button>
        ))
      }
    </Popover>
  );
}
