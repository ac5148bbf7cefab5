import type { ComponentProps } from "react";
import { Icon, type IconName } from "./Icon";

const LOOKS = {
  primary: "bg-accent text-on-accent hover:bg-accent-strong",
  plain: "border border-line bg-raised hover:bg-hover",
  danger: "bg-danger text-on-danger hover:opacity-90",
} as const;

type ButtonProps = ComponentProps<"button"> & { look?: keyof typeof LOOKS };

export function Button({ look = "plain", className = "", ...rest }: ButtonProps) {
  const shape = "inline-flex h-9 pointer-coarse:h-11 items-center justify-center gap-1.5 rounded-lg px-3.5 text-sm font-medium transition-colors disabled:opacity-50";
  return <button type="button" className={`${shape} ${LOOKS[look]} ${className}`} {...rest} />;
}

type IconButtonProps = ComponentProps<"button"> & { icon: IconName; label: string };

/** A button that is only a picture: its label is its name and its tooltip. */
export function IconButton({ icon, label, className = "", ...rest }: IconButtonProps) {
  // The ring of the focus is inside: these stand close to one another.
  const shape = "grid size-9 pointer-coarse:min-h-11 pointer-coarse:min-w-11 place-items-center rounded-lg text-muted outline-offset-[-2px] transition-colors hover:bg-hover hover:text-ink";
  return (
    <button type="button" aria-label={label} title={label} className={`${shape} ${className}`} {...rest}>
      <Icon name={icon} />
    </button>
  );
}
