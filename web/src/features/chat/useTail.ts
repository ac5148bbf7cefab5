/**
 * How much of a long conversation stands in the page: its end, and more of what is above as the reader comes near. What
 * once stands there stays, so that the page's own search, a selection and a screen reader have one whole text.
 */

import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

const FIRST = 24;
const MORE = 20;
/** What stands above a message that is looked for. */
const ABOVE = 6;
/** How far above the screen messages are made. */
const AHEAD = "1200px 0px";

interface Tail {
  /** The first one that stands in the page. */
  from: number;
  /** Put where more will come. */
  top: RefObject<HTMLDivElement | null>;
  isMore: boolean;
}

/** `wanted`: the place of a message that must stand there; -1 where it hasn't been read yet, null for none. */
export function useTail(
  path: readonly unknown[],
  onOlder: (() => Promise<void>) | null,
  box: RefObject<HTMLDivElement | null>,
  wanted: number | null,
): Tail {
  const [count, setCount] = useState(FIRST);
  const top = useRef<HTMLDivElement>(null);
  const from = Math.max(0, path.length - count);
  const isMore = from > 0 || onOlder !== null;
  const isReading = useRef(false);

  const readOlder = useCallback(() => {
    if (onOlder === null || isReading.current) return;
    isReading.current = true;
    onOlder()
      .catch(() => undefined) // Coming near once more tries again.
      .finally(() => {
        isReading.current = false;
      });
  }, [onOlder]);

  useEffect(() => {
    if (wanted === null) return;
    if (wanted < 0) readOlder();
    else setCount((now) => Math.max(now, path.length - wanted + ABOVE));
  }, [wanted, path.length, readOlder]);

  useEffect(() => {
    const mark = top.current;
    if (!mark || !isMore) return;
    const near = new IntersectionObserver(
      ([entry]) => {
        if (!entry?.isIntersecting) return;
        if (from > 0) setCount(count + MORE);
        else readOlder();
      },
      { root: box.current, rootMargin: AHEAD },
    );
    near.observe(mark);
    return () => near.disconnect();
  }, [box, count, from, isMore, readOlder, path.length]);

  useKeptPlace(box, path.length - from);
  return { from, top, isMore };
}

const ANCHORS = typeof CSS !== "undefined" && CSS.supports("overflow-anchor", "auto");

/** What comes above must not move what is read. The browser sees to that, but not at the very top, and not every one. */
function useKeptPlace(box: RefObject<HTMLDivElement | null>, shown: number): void {
  const before = useRef({ shown: 0, height: 0 });
  useLayoutEffect(() => {
    const scroller = box.current;
    if (!scroller) return;
    const { shown: shownBefore, height } = before.current;
    const hasGrown = shown - shownBefore > 2 && shownBefore > 0;
    if (hasGrown && (!ANCHORS || scroller.scrollTop === 0)) scroller.scrollTop += scroller.scrollHeight - height;
    before.current = { shown, height: scroller.scrollHeight };
  }, [box, shown]);
}
