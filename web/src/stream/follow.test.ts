import { expect, test } from "vitest";
import { Problem } from "../protocol/client";
import { runTurn, type TurnConnection } from "./follow";
import { emptyTurn, shownText, type TurnState } from "./turn";

const head = { id: "c", object: "chat.completion.chunk", model: "m", turn_id: "turn_1", message_id: "msg_1" };
const delta = (position: number, content: string) =>
  `id: ${position}\ndata: ${JSON.stringify({ ...head, choices: [{ index: 0, delta: { content }, finish_reason: null }] })}\n\n`;
const endAt = (position: number) =>
  `id: ${position}\ndata: ${JSON.stringify({ ...head, choices: [{ index: 0, delta: {}, finish_reason: "stop" }] })}\n\ndata: [DONE]\n\n`;
const answers = (...parts: string[]) => new Response(new Blob(parts).stream());
const refuses = (status: number, code: string, headers = {}) =>
  Response.json({ error: { message: "no", type: "t", param: null, code } }, { status, headers });

interface Script {
  opens: (() => Response)[];
  resumes?: (() => Response)[];
}

function play({ opens, resumes = [] }: Script) {
  const asked: string[] = [];
  const shown: string[] = [];
  const connection: TurnConnection = {
    open: async () => {
      asked.push("open");
      return opens.shift()!();
    },
    resume: async (turnId, after) => {
      asked.push(`${turnId} after ${after}`);
      return resumes.shift()!();
    },
    pause: async () => undefined,
  };
  const watcher = { onState: (state: TurnState) => shown.push(shownText(state)), onConnection: () => undefined };
  return { asked, shown, outcome: runTurn(emptyTurn, connection, watcher, new AbortController().signal) };
}

const unreachable = () => {
  throw new Problem(0, "unreachable", "no");
};

test("a turn that isn't disturbed is read from one connection", async () => {
  const { asked, outcome } = play({ opens: [() => answers(delta(1, ""), delta(2, "Hi"), endAt(3))] });
  expect((await outcome).text).toBe("Hi");
  expect(asked).toEqual(["open"]);
});

test("a connection that breaks in the middle is resumed behind the last position, without loss or repeat", async () => {
  const { asked, shown, outcome } = play({
    opens: [() => answers(delta(1, ""), delta(2, "Hel"))],
    resumes: [unreachable, () => answers(delta(3, "lo")), () => answers(endAt(4))],
  });
  expect((await outcome).text).toBe("Hello");
  expect(asked).toEqual(["open", "turn_1 after 2", "turn_1 after 2", "turn_1 after 3"]);
  expect(shown).toEqual(shown.toSorted((a, b) => a.length - b.length));
});

test("an ask that never arrived is sent again, and given up after a few tries", async () => {
  const again = play({ opens: [unreachable, () => answers(delta(1, "Hi"), endAt(2))] });
  expect((await again.outcome).text).toBe("Hi");
  const never = play({ opens: Array.from({ length: 6 }, () => unreachable) });
  await expect(never.outcome).rejects.toMatchObject({ status: 0 });
});

test("a refusal is not tried again by itself, and says when to", async () => {
  const { asked, outcome } = play({ opens: [() => refuses(429, "rate_limit_exceeded", { "retry-after": "7" })] });
  await expect(outcome).rejects.toMatchObject({ status: 429, code: "rate_limit_exceeded", retryAfterS: 7 });
  expect(asked).toEqual(["open"]);
});

test("a busy server while resuming is waited for", async () => {
  const { outcome } = play({ opens: [() => answers(delta(1, "Hi"))], resumes: [() => refuses(503, "overloaded"), () => answers(endAt(2))] });
  expect((await outcome).text).toBe("Hi");
});

test("a server that stays away is waited for as long as it takes", async () => {
  const away = Array.from({ length: 40 }, () => unreachable);
  const { outcome } = play({ opens: [() => answers(delta(1, "Hi"))], resumes: [...away, () => answers(endAt(2))] });
  expect((await outcome).text).toBe("Hi");
});

test("a log that was lost and written anew is read from its start, and nothing is shown twice or taken back", async () => {
  const { asked, shown, outcome } = play({
    opens: [() => answers(delta(1, ""), delta(2, "Hel"))],
    resumes: [() => answers(delta(7, "Hello y")), () => answers(delta(1, ""), delta(7, "Hello y"), delta(8, "ou"), endAt(9))],
  });
  expect((await outcome).text).toBe("Hello you");
  expect(asked).toEqual(["open", "turn_1 after 2", "turn_1 after 0"]);
  expect(shown).toEqual(["", "Hel", "Hel", "Hello y", "Hello you", "Hello you", "Hello you"]);
});

test("a log that is gone is reported, not tried for ever", async () => {
  const { outcome } = play({ opens: [() => answers(delta(1, "Hi"))], resumes: [() => refuses(404, "not_found")] });
  await expect(outcome).rejects.toMatchObject({ status: 404 });
});
