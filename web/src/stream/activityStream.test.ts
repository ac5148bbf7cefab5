import { expect, test } from "vitest";
import { Problem } from "../protocol/client";
import { ActivityStream } from "./activityStream";

const place = (id: string) => `id: ${id}\n\n`;
const created = (id: string) => `id: ${id}\ndata: ${JSON.stringify({ type: "conversation.created", conversation_id: `c${id}` })}\n\n`;
const reset = (id: string) => `id: ${id}\ndata: {"type":"reset"}\n\n`;
const answers = (...parts: string[]) => () => new Response(new Blob(parts).stream());
const refuses = (status: number) => () =>
  Response.json({ error: { message: "no", type: "t", param: null, code: "c" } }, { status });
const cut = () => {
  throw new Problem(0, "unreachable", "no");
};

/** Follows through these connections, then ends. What happened, in its order. */
async function follow(...connections: (() => Response)[]): Promise<string[]> {
  const happened: string[] = [];
  const end = new AbortController();
  const stream = new ActivityStream(
    {
      open: async (lastEventId) => {
        happened.push(`opens behind ${lastEventId}`);
        return connections.shift()!();
      },
      pause: async () => {
        if (connections.length === 0) end.abort();
      },
    },
    {
      onEvent: ({ conversation_id }) => happened.push(conversation_id),
      onGap: () => happened.push("reads anew"),
      onRefused: ({ status }) => happened.push(`refused with ${status}`),
    },
  );
  await stream.run(end.signal);
  expect(stream.isOpen).toBe(false);
  return happened;
}

test("a stream that was cut goes on behind the last event, and what is shown isn't read again", async () => {
  expect(await follow(answers(place("1-0"), created("2-0"), created("2-1")), cut, answers(created("3-0")))).toEqual([
    "opens behind null",
    "reads anew",
    "c2-0",
    "c2-1",
    "opens behind 2-1",
    "opens behind 2-1",
    "c3-0",
  ]);
});

test("a stream on which nothing happened goes on from where it began", async () => {
  expect(await follow(answers(place("1-0")), answers(created("2-0")))).toEqual(["opens behind null", "reads anew", "opens behind 1-0", "c2-0"]);
});

test("a stream that was cut before it had a place begins anew", async () => {
  expect(await follow(answers(), answers(place("1-0")))).toEqual(["opens behind null", "reads anew", "opens behind null", "reads anew"]);
});

test("when the server says that events were missed, all is read anew, and it goes on from there", async () => {
  expect(await follow(answers(created("1-0")), answers(reset("9-0"), created("9-1")), answers())).toEqual([
    "opens behind null",
    "reads anew",
    "c1-0",
    "opens behind 1-0",
    "reads anew",
    "c9-1",
    "opens behind 9-1",
  ]);
});

test("while events couldn't be kept, some may be missing: all is read anew, once", async () => {
  expect(await follow(answers(place("1-0")), refuses(503), refuses(503), answers(), answers())).toEqual([
    "opens behind null",
    "reads anew",
    "opens behind 1-0",
    "opens behind 1-0",
    "opens behind 1-0",
    "reads anew",
    "opens behind 1-0",
  ]);
});

test("a refusal ends it", async () => {
  expect(await follow(refuses(401), answers())).toEqual(["opens behind null", "refused with 401"]);
});

test("a stream that is run again goes on from where it was", async () => {
  const behind: (string | null)[] = [];
  const first = new AbortController();
  const second = new AbortController();
  const stream = new ActivityStream(
    {
      open: async (lastEventId) => {
        behind.push(lastEventId);
        return answers(created("5-0"))();
      },
      pause: async () => (behind.length === 1 ? first : second).abort(),
    },
    { onEvent: () => undefined, onGap: () => undefined, onRefused: () => undefined },
  );
  await stream.run(first.signal);
  await stream.run(second.signal);
  expect(behind).toEqual([null, "5-0"]);
});
