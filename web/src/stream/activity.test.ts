import { expect, test } from "vitest";
import type { ActivityEvent, Conversation } from "../protocol/wire";
import { applyToList, applyToRunning, mustBeRead, parseActivity } from "./activity";

const NOW = 1000;
const row = (id: string, updated_at: number, title: string | null = id): Conversation => ({
  id,
  object: "conversation",
  title,
  created_at: 0,
  updated_at,
  active_leaf: null,
  metadata: {},
});
const pages = [[row("c3", 300), row("c2", 200)], [row("c1", 100)]];
const event = (type: ActivityEvent["type"], conversation_id: string, more: Partial<ActivityEvent> = {}): ActivityEvent => ({ type, conversation_id, ...more });
const shown = (told: ActivityEvent, from: readonly (readonly Conversation[])[] = pages) =>
  applyToList(from, told, NOW).map((page) => page.map(({ id, title }) => (id === title ? id : `${id}: ${title}`)).join());

test("a chat that another device began comes first, and gets its title with its first turn", () => {
  const created = applyToList(pages, event("conversation.created", "c4"), NOW);
  expect(created[0]?.[0]).toMatchObject({ id: "c4", title: null, updated_at: NOW });
  expect(shown(event("turn.started", "c4", { turn_id: "t", title: "Say hello." }), created)).toEqual(["c4: Say hello.,c3,c2", "c1"]);
});

test("a chat that this page began itself is told of and stays one", () => {
  const created = applyToList(pages, event("conversation.created", "c4"), NOW);
  expect(applyToList(created, event("conversation.created", "c4"), NOW)).toBe(created);
});

test("a title changes where the row stands", () => {
  expect(shown(event("conversation.updated", "c2", { title: "Named" }))).toEqual(["c3,c2: Named", "c1"]);
  expect(shown(event("conversation.updated", "c2"))).toEqual(["c3,c2", "c1"]);
  expect(shown(event("conversation.updated", "c9", { title: "Not read yet" }))).toEqual(["c3,c2", "c1"]);
});

test("a turn that starts or ends brings its conversation to the front, from whichever page", () => {
  expect(shown(event("turn.started", "c1", { turn_id: "t" }))).toEqual(["c1,c3,c2", ""]);
  expect(shown(event("turn.ended", "c2", { turn_id: "t" }))).toEqual(["c2,c3", "c1"]);
  expect(shown(event("turn.ended", "c0", { turn_id: "t" }))).toEqual(["c3,c2", "c1"]);
});

test("of a turn in a conversation that isn't in the list only reading it tells whether it belongs there", () => {
  const started = event("turn.started", "c0", { turn_id: "t", title: "Temporary, archived, or old" });
  expect(applyToList(pages, started, NOW)).toBe(pages);
  expect(mustBeRead(pages, started)).toBe(true);
  expect(mustBeRead(pages, event("turn.started", "c1", { turn_id: "t" }))).toBe(false);
  expect(mustBeRead(pages, event("turn.ended", "c0", { turn_id: "t" }))).toBe(false);
});

test("a pin, a project and the archive are taken from the event, and nothing is read for them", () => {
  const marks = { archived: false, pinned: true, project_id: "proj_1" };
  const pinned = event("conversation.updated", "c2", marks);
  expect(applyToList(pages, pinned, NOW)[0]?.[1]).toEqual({ ...row("c2", 200), ...marks });
  expect(shown(event("conversation.updated", "c2", { archived: true }))).toEqual(["c3", "c1"]);
  for (const told of [pinned, event("conversation.updated", "c9", { archived: true }), event("conversation.updated", "c9", { title: "Named" })]) {
    expect(mustBeRead(pages, told)).toBe(false);
  }
  expect(mustBeRead(pages, event("conversation.updated", "c9", { archived: false }))).toBe(true); // out of the archive
});

test("a list of a project holds what is in it", () => {
  const isInside = ({ project_id }: Conversation) => project_id === "proj_1";
  const inside = [[{ ...row("c1", 100), project_id: "proj_1" }]];
  const moved = event("conversation.updated", "c1", { archived: false, project_id: null });
  expect(applyToList(inside, moved, NOW, isInside)).toEqual([[]]);
  expect(mustBeRead(inside, event("conversation.updated", "c2", { archived: false, project_id: "proj_1" }), isInside)).toBe(true);
  expect(applyToList(inside, event("conversation.created", "c3"), NOW, isInside)).toBe(inside);
});

test("the title that a turn was accepted with doesn't replace a better one", () => {
  expect(shown(event("turn.started", "c2", { turn_id: "t", title: "older" }))).toEqual(["c2,c3", "c1"]);
});

test("the front is never older than what stands behind it, whatever this device's clock says", () => {
  const ahead = [[row("c2", NOW + 500), row("c1", 100)]];
  expect(applyToList(ahead, event("turn.started", "c1", { turn_id: "t" }), NOW)[0]?.[0]).toMatchObject({ id: "c1", updated_at: NOW + 500 });
});

test("a deleted conversation leaves the list, once", () => {
  expect(shown(event("conversation.deleted", "c3"))).toEqual(["c2", "c1"]);
  expect(applyToList(pages, event("conversation.deleted", "c9"), NOW)).toBe(pages);
});

test("a turn runs from its start, told once or twice, to its end", () => {
  const started = event("turn.started", "c1", { turn_id: "t1", status: "streaming" });
  const running = applyToRunning(applyToRunning([], started), started);
  expect(running).toEqual([{ id: "t1", conversation_id: "c1" }]);
  const both = applyToRunning(running, event("turn.started", "c2", { turn_id: "t2" }));
  expect(applyToRunning(both, event("turn.ended", "c1", { turn_id: "t1", status: "complete" }))).toEqual([{ id: "t2", conversation_id: "c2" }]);
  expect(applyToRunning(both, event("conversation.deleted", "c2"))).toEqual(running);
});

test("what isn't an event of ours is passed over", () => {
  for (const data of ["", "{", "null", '"x"', '{"type":"turn.started"}', '{"conversation_id":"c"}']) {
    expect(parseActivity({ id: "1-0", data })).toBeNull();
  }
  expect(parseActivity({ id: "1-0", data: '{"type":"reset"}' })).toEqual({ type: "reset" });
});
