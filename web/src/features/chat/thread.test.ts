import { expect, test } from "vitest";
import type { Message } from "../../protocol/wire";
import { doubtTurn, emptyThread, isKnown, newestLeafBelow, settledPart, shownPath } from "./thread";

function message(seq: number, parent: number | null, role: Message["role"], more: Partial<Message> = {}): Message {
  const parent_id = parent === null ? null : `m${parent}`;
  const id = `m${seq}`;
  return { id, object: "conversation.message", seq, role, content: id, status: "complete", created_at: 0, parent_id, turn_id: `t${seq}`, model: null, finish_reason: null, ...more };
}

// 1 ─ 2 ─ 4 ─ 5      the first question, its two answers (2, 3), a second question after the first answer,
//   └ 3              and the first question edited (6), with its answer (7)
// 6 ─ 7
const messages = [
  message(1, null, "user"),
  message(2, 1, "assistant"),
  message(3, 1, "assistant"),
  message(4, 2, "user"),
  message(5, 4, "assistant"),
  message(6, null, "user"),
  message(7, 6, "assistant"),
];
const shown = (leafId: string | null) => shownPath({ messages, leafId }).map(({ message: { id }, siblings }) => [id, siblings.join()]);

test("the path to the leaf is shown, each message with its siblings", () => {
  expect(shown("m5")).toEqual([["m1", "m1,m6"], ["m2", "m2,m3"], ["m4", "m4"], ["m5", "m5"]]);
  expect(shown("m7")).toEqual([["m6", "m1,m6"], ["m7", "m7"]]);
  expect(shown(null)).toEqual([]);
});

test("what tools and the system said is on the path and not shown", () => {
  const thread = { messages: [message(1, null, "system"), message(2, 1, "user"), message(3, 2, "tool"), message(4, 3, "assistant")], leafId: "m4" };
  expect(shownPath(thread).map(({ message: { id } }) => id)).toEqual(["m2", "m4"]);
});

test("choosing a branch shows its newest leaf", () => {
  expect(newestLeafBelow(messages, "m2")).toBe("m5");
  expect(newestLeafBelow(messages, "m3")).toBe("m3");
  expect(newestLeafBelow(messages, "m1")).toBe("m5");
});

test("messages before the first that may change needn't be read again", () => {
  const thread = { ...emptyThread, messages };
  expect(settledPart(thread)).toHaveLength(7);
  expect(settledPart(doubtTurn(thread, "t5"))).toHaveLength(4);
  expect(settledPart(doubtTurn(doubtTurn(thread, "t5"), "t7"))).toHaveLength(4);
  expect(settledPart(doubtTurn(thread, "t9"))).toHaveLength(7);
  expect(settledPart({ ...thread, messages: [...messages, message(8, 7, "assistant", { status: "streaming" })] })).toHaveLength(7);
});

test("an event that tells what is shown already changes nothing", () => {
  const growing = { ...emptyThread, messages: [...messages, message(8, 7, "assistant", { status: "streaming" })] };
  const ended = { type: "turn.ended", conversation_id: "c", turn_id: "t5", status: "complete" } as const;
  expect(isKnown(growing, ended)).toBe(true);
  expect(isKnown(growing, { ...ended, status: "stopped" })).toBe(false);
  expect(isKnown(growing, { ...ended, turn_id: "t9" })).toBe(false);
  expect(isKnown(growing, { ...ended, type: "turn.started", turn_id: "t8" })).toBe(true);
  expect(isKnown(growing, { ...ended, type: "turn.started" })).toBe(false);
  expect(isKnown(growing, { type: "conversation.updated", conversation_id: "c", title: "Named" })).toBe(false);
});
