import { beforeEach, expect, test, vi } from "vitest";
import type { DrawDiagram, DrawnDiagram } from "../../../diagram/messages";
import { drawDiagram, LONGEST_MS } from "./drawing";

const HANGS = "hangs";
let opened = 0;
let isThere = 0;

/** A frame as the page sees it: it says that it is ready, and draws what doesn't hang. */
function aFrame() {
  let isHanging = false;
  const say = (data: DrawnDiagram | { id: "ready" }) => queueMicrotask(() => events.dispatchEvent(Object.assign(new Event("message"), { data, source: contentWindow })));
  const contentWindow = {
    postMessage: ({ id, source }: DrawDiagram) => {
      isHanging ||= source === HANGS;
      if (!isHanging) say({ id, result: { svg: `<svg>${source}</svg>` } });
    },
  };
  opened += 1;
  return { contentWindow, setAttribute: () => undefined, remove: () => (isThere -= 1), say };
}

let events = new EventTarget();

beforeEach(() => {
  vi.useFakeTimers();
  events = new EventTarget();
  vi.stubGlobal("addEventListener", events.addEventListener.bind(events));
  vi.stubGlobal("removeEventListener", events.removeEventListener.bind(events));
  vi.stubGlobal("document", {
    createElement: aFrame,
    body: {
      append: (frame: ReturnType<typeof aFrame>) => {
        isThere += 1;
        frame.say({ id: "ready" });
      },
    },
  });
});

test("a diagram that hangs is given up alone: the others are drawn in a new frame", async () => {
  const drawn = ["first", HANGS, "last"].map((source) => drawDiagram(source, "light"));
  await vi.advanceTimersByTimeAsync(LONGEST_MS);
  expect(await Promise.all(drawn)).toEqual([{ svg: "<svg>first</svg>" }, { late: true }, { svg: "<svg>last</svg>" }]);
  expect({ opened, isThere }).toEqual({ opened: 2, isThere: 1 });
});
