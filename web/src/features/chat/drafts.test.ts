import { beforeEach, expect, test } from "vitest";
import { dropFromDraft, joined, readDraft, returnToDraft, writeDraft } from "./drafts";
import { enqueue } from "./queue";
import { forgetUnsent } from "./unsent";

const stored = new Map<string, string>();

beforeEach(() => {
  stored.clear();
  globalThis.localStorage = {
    get length() {
      return stored.size;
    },
    key: (index: number) => [...stored.keys()][index] ?? null,
    getItem: (key: string) => stored.get(key) ?? null,
    setItem: (key: string, value: string) => void stored.set(key, value),
    removeItem: (key: string) => void stored.delete(key),
  } as Storage;
});

test("a text that is given stands before what is being typed", () => {
  expect(joined("given", "")).toBe("given");
  expect(joined("given", "typed")).toBe("given\n\ntyped");
});

test("a refused message is kept beside what was typed since, once, and leaves only that behind", () => {
  writeDraft("conv_1", "typed");
  returnToDraft("conv_1", "refused");
  returnToDraft("conv_1", "refused");
  expect(readDraft("conv_1")).toBe("refused\n\ntyped");
  dropFromDraft("conv_1", "refused");
  expect(readDraft("conv_1")).toBe("typed");
  dropFromDraft("conv_1", "refused");
  expect(readDraft("conv_1")).toBe("typed");
});

test("what is unsent is forgotten with its conversation, or all of it, and nothing else", () => {
  stored.set("triplane.theme", "dark");
  for (const id of ["conv_1", "conv_2"]) {
    writeDraft(id, "secret");
    enqueue(id, "secret");
  }
  writeDraft(null, "secret");
  forgetUnsent("conv_1");
  expect([...stored.keys()].sort()).toEqual(["triplane.draft.conv_2", "triplane.draft.new", "triplane.queue.conv_2", "triplane.theme"]);
  forgetUnsent();
  expect([...stored]).toEqual([["triplane.theme", "dark"]]);
});
