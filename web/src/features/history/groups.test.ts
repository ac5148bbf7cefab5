import { expect, test } from "vitest";
import type { Conversation } from "../../protocol/wire";
import { groupByTime } from "./groups";

const now = new Date(2026, 10, 23, 15, 0);
const at = (...date: [number, number, number, number?]): Conversation => {
  const seconds = new Date(...date).getTime() / 1000;
  return { id: String(seconds), object: "conversation", title: null, created_at: 0, updated_at: seconds, active_leaf: null, metadata: {} };
};

test("conversations stand under the reader's own days, and empty groups are left out", () => {
  const groups = groupByTime([at(2026, 10, 23, 0), at(2026, 10, 22, 23), at(2026, 10, 16), at(2026, 10, 15, 23)], now);
  expect(groups.map(({ label, conversations }) => [label, conversations.length])).toEqual([
    ["Today", 1],
    ["Yesterday", 1],
    ["Previous 7 days", 1],
    ["Older", 1],
  ]);
  expect(groupByTime([], now)).toEqual([]);
  const [first] = groupByTime([{ ...at(2020, 1, 1), pinned: true }, at(2026, 10, 23)], now);
  expect(first?.label).toBe("Pinned");
});
