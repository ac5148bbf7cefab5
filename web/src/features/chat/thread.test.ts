import { expect, test } from "vitest";
import type { Message } from "../../protocol/wire";
import { newestLeafBelow, settledPart, shownPath } from "./thread";

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
  expect(settledPart(messages, null)).toHaveLength(7);
  expect(settledPart(messages, "t5")).toHaveLength(4);
  expect(settledPart([...messages, message(8, 7, "assistant", { status: "streaming" })], null)).toHaveLength(7);
});
