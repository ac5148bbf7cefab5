import { IconButton } from "../../ui/Button";

interface BranchesProps {
  id: string;
  siblings: readonly string[];
  isDisabled: boolean;
  onChoose: (messageId: string) => void;
}

/** ‹ 2/3 ›: where a message stands among its siblings, and the way to them. */
export function Branches({ id, siblings, isDisabled, onChoose }: BranchesProps) {
  if (siblings.length < 2) return null;
  const at = siblings.indexOf(id);
  const go = (to: string | undefined) => () => to !== undefined && onChoose(to);
  const before = siblings[at - 1];
  const after = siblings[at + 1];
  return (
    <span role="group" aria-label="Versions" className="inline-flex items-center text-xs text-muted">
      <IconButton icon="back" label="Earlier version" className="size-8! disabled:opacity-40" disabled={isDisabled || !before} onClick={go(before)} />
      <span className="tabular-nums">
        {at + 1}/{siblings.length}
      </span>
      <IconButton icon="forth" label="Later version" className="size-8! disabled:opacity-40" disabled={isDisabled || !after} onClick={go(after)} />
    </span>
  );
}
