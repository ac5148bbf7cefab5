import { beforeEach, expect, test } from "vitest";
import { enqueue, nextQueued, readQueue, unqueue } from "./queue";

const stored = new Map<string, string>();

beforeEach(() => {
  stored.clear();
  globalThis.localStorage = {
    getItem: (key: string) => stored.get(key) ?? null,
    setItem: (key: string, value: string) => void stored.set(key, value),
    removeItem: (key: string) => void stored.delete(key),
  } as Storage;
});

const texts = (id = "conv_1") => readQueue(id).map(({ text }) => text);

test("messages are taken in the order in which they were written, each once", () => {
  enqueue("conv_1", "a");
  enqueue("conv_1", "b");
  enqueue("conv_2", "other");
  expect(nextQueued("conv_1")?.text).toBe("a");
  expect(nextQueued("conv_1")?.text).toBe("b");
  expect(nextQueued("conv_1")).toBeNull();
  expect(texts("conv_2")).toEqual(["other"]);
});

test("one of them is taken out", () => {
  enqueue("conv_1", "a");
  enqueue("conv_1", "b");
  unqueue("conv_1", readQueue("conv_1")[0]!.requestId);
  expect(texts()).toEqual(["b"]);
});

test("each goes with a request id of its own, which a reload keeps", () => {
  enqueue("conv_1", "a");
  enqueue("conv_1", "a");
  const [first, second] = readQueue("conv_1").map(({ requestId }) => requestId);
  expect(first).not.toBe(second);
  expect(JSON.parse(stored.get("triplane.queue.conv_1")!)[0].requestId).toBe(first);
});

test("the queue has an end, and what can't be read is nothing", () => {
  for (let count = 0; count < 20; count++) expect(enqueue("conv_1", "x")).toBe(true);
  expect(enqueue("conv_1", "x")).toBe(false);
  stored.set("triplane.queue.conv_1", "{");
  expect(texts()).toEqual([]);
});
