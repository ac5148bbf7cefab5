import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import type { Chunk } from "../protocol/wire";
import { createSseParser } from "./sse";
import { emptyTurn, parseTurnEvent, reduce, shownText, type TurnEvent, type TurnState } from "./turn";

function chunk(position: number, content: string, more: Partial<Chunk> = {}): TurnEvent {
  const choices = [{ index: 0, delta: { content }, finish_reason: null }];
  return { kind: "chunk", position, chunk: { id: "c", object: "chat.completion.chunk", model: "m", choices, turn_id: "turn_1", message_id: "msg_1", ...more } };
}

const finish: TurnEvent = chunk(4, "", { choices: [{ index: 0, delta: {}, finish_reason: "stop" }], status: "complete" });
const usage: TurnEvent = chunk(4, "", { choices: [] });
const done: TurnEvent = { kind: "done", position: null };
const TURN = [chunk(1, ""), chunk(2, "Hel"), chunk(3, "lo"), finish, usage, done];

const run = (events: TurnEvent[], from: TurnState = emptyTurn) => events.reduce(reduce, from);

test("a turn's events build up its text, its ids and how it ended", () => {
  const state = run(TURN);
  expect(state).toMatchObject({ text: "Hello", turnId: "turn_1", messageId: "msg_1", model: "m", position: 4, finishReason: "stop", status: "complete", isEnded: true });
});

test("any prefix can be resumed: what is left gives the same state as the whole", () => {
  for (let cut = 0; cut <= TURN.length; cut++) expect(run(TURN.slice(cut), run(TURN.slice(0, cut)))).toEqual(run(TURN));
});

test("an event from before the position is a repeat and adds nothing", () => {
  expect(run([chunk(1, ""), chunk(2, "Hel"), chunk(3, "lo"), chunk(2, "Hel")]).text).toBe("Hello");
});

test("nothing is taken in after the end", () => {
  expect(run([...TURN, chunk(9, "more")])).toEqual(run(TURN));
});

test("the shown text never gets shorter than what the store had", () => {
  const state = { ...emptyTurn, storedText: "Hello" };
  expect(shownText(state)).toBe("Hello");
  expect(shownText(run([chunk(2, "Hel")], state))).toBe("Hello");
  expect(shownText(run([chunk(2, "Hello you")], state))).toBe("Hello you");
});

test("an error event marks the turn as failed and keeps the text", () => {
  const error = { message: "m", type: "api_error", param: null, code: "engine_failed" };
  const state = run([chunk(2, "Hel"), { kind: "error", position: 3, error }, done]);
  expect(state).toMatchObject({ text: "Hel", status: "failed", error, isEnded: true });
});

test("what isn't a chunk is left aside", () => {
  expect(parseTurnEvent({ id: null, data: "not json" })).toBeNull();
  expect(parseTurnEvent({ id: null, data: "3" })).toBeNull();
  expect(parseTurnEvent({ id: null, data: '{"object":"else"}' })).toBeNull();
});

const fixtures = new URL("../../../tests/fixtures/wire/", import.meta.url);
const recorded = readdirSync(fixtures, { withFileTypes: true }).filter((entry) => entry.name.endsWith(".sse"));

test.for(recorded.map((entry) => entry.name))("the recorded stream %s is read to its end", (name) => {
  const events = createSseParser().push(readFileSync(new URL(name, fixtures), "utf8"));
  const state = run(events.map(parseTurnEvent).filter((event) => event !== null));
  expect(state.isEnded).toBe(true);
});
