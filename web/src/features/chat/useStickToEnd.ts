/** Keeps a scrolling box at its end while its content grows, until the reader scrolls up; then leaves it alone. */

import { type RefObject, useCallback, useEffect, useRef, useState } from "react";

const CLOSE_TO_END = 24;

const isAtItsEnd = ({ scrollTop, scrollHeight, clientHeight }: HTMLElement): boolean => scrollHeight - scrollTop - clientHeight <= CLOSE_TO_END;

interface StickToEnd {
  box: RefObject<HTMLDivElement | null>;
  content: RefObject<HTMLDivElement | null>;
  isAtEnd: boolean;
  jumpToEnd: () => void;
  /** Stays where it was scrolled to, by whatever. */
  letGo: () => void;
}

export function useStickToEnd(): StickToEnd {
  const box = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const isStuck = useRef(true);
  const last = useRef({ top: 0, height: 0 });
  const [isAtEnd, setIsAtEnd] = useState(true);

  const jumpToEnd = useCallback(() => {
    isStuck.current = true;
    setIsAtEnd(true);
    if (box.current) box.current.scrollTop = box.current.scrollHeight;
  }, []);

  const letGo = useCallback(() => {
    if (box.current) isStuck.current = isAtItsEnd(box.current);
    setIsAtEnd(isStuck.current);
  }, []);

  useEffect(() => {
    const scroller = box.current;
    const inner = content.current;
    if (!scroller || !inner) return;
    const onScroll = () => {
      const { scrollTop, scrollHeight } = scroller;
      const hasShrunk = scrollHeight < last.current.height;
      if (isAtItsEnd(scroller)) isStuck.current = true;
      else if (scrollTop < last.current.top && !hasShrunk) isStuck.current = false;
      last.current = { top: scrollTop, height: scrollHeight };
      setIsAtEnd(isStuck.current);
    };
    const onGrowth = new ResizeObserver(() => {
      if (isStuck.current) scroller.scrollTop = scroller.scrollHeight;
    });
    scroller.addEventListener("scroll", onScroll, { passive: true });
    onGrowth.observe(inner);
    onGrowth.observe(scroller);
    return () => {
      scroller.removeEventListener("scroll", onScroll);
      onGrowth.disconnect();
    };
  }, []);

  return { box, content, isAtEnd, jumpToEnd, letGo };
}
