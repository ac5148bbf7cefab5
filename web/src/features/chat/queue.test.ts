import { beforeEach, expect, test } from "vitest";
import { enqueue, type Queued, readQueue, sendFirst, unqueue } from "./queue";

const stored = new Map<string, string>();
let isFull = false;

beforeEach(() => {
  stored.clear();
  isFull = false;
  globalThis.localStorage = {
    getItem: (key: string) => stored.get(key) ?? null,
    setItem: (key: string, value: string) => {
      if (isFull) throw new DOMException("full", "QuotaExceededError");
      stored.set(key, value);
    },
    removeItem: (key: string) => void stored.delete(key),
  } as Storage;
});

const texts = (id = "conv_1") => readQueue(id).map(({ text }) => text);

/** The server, and what a tab does of it: it takes a request in once, and says whether the conversation is idle. */
function aServer() {
  const taken: Queued[] = [];
  let isGrowing = false;
  const accept = (queued: Queued) => {
    if (!taken.some(({ requestId }) => requestId === queued.requestId)) {
      taken.push(queued);
      isGrowing = true;
    }
    unqueue("conv_1", queued.requestId);
  };
  const end = () => {
    isGrowing = false;
  };
  return { taken: () => taken.map(({ text }) => text), isIdle: () => !isGrowing, accept, end };
}

test("messages are sent in the order in which they were written, each once, and stay until the server has them", async () => {
  enqueue("conv_1", "a");
  enqueue("conv_1", "b");
  enqueue("conv_2", "other");
  const sent: Queued[] = [];
  const tab = { mayFollow: async () => true, send: (queued: Queued) => void sent.push(queued) };
  await sendFirst("conv_1", tab);
  expect(texts()).toEqual(["a", "b"]); // nobody knows yet whether it has arrived
  await sendFirst("conv_1", tab);
  unqueue("conv_1", sent[1]!.requestId);
  await sendFirst("conv_1", tab);
  expect(sent.map(({ text }) => text)).toEqual(["a", "a", "b"]);
  expect(sent[0]!.requestId).toBe(sent[1]!.requestId);
  expect(texts("conv_2")).toEqual(["other"]);
});

test("nothing is sent while an answer is being written", async () => {
  enqueue("conv_1", "a");
  await sendFirst("conv_1", { mayFollow: async () => false, send: () => expect.unreachable() });
  expect(texts()).toEqual(["a"]);
});

test("two tabs that see the same answer end send one message, and the later one doesn't send the next past it", async () => {
  enqueue("conv_1", "a");
  enqueue("conv_1", "b");
  const server = aServer();
  const tab = { mayFollow: async () => server.isIdle(), send: server.accept };
  await Promise.all([sendFirst("conv_1", tab), sendFirst("conv_1", tab)]);
  await sendFirst("conv_1", tab); // a third, which saw the end late
  expect(server.taken()).toEqual(["a"]);
  server.end();
  await sendFirst("conv_1", tab);
  expect(server.taken()).toEqual(["a", "b"]);
});

test("a tab that read the conversation just before another one sent holds back", async () => {
  enqueue("conv_1", "a");
  enqueue("conv_1", "b");
  const server = aServer();
  const other = { mayFollow: async () => server.isIdle(), send: server.accept };
  const late = {
    mayFollow: async () => {
      const wasIdle = server.isIdle();
      if (wasIdle) await sendFirst("conv_1", other);
      return wasIdle;
    },
    send: server.accept,
  };
  await sendFirst("conv_1", late);
  expect(server.taken()).toEqual(["a"]);
});

test("what can't be kept isn't taken", () => {
  isFull = true;
  expect(enqueue("conv_1", "a")).toBe(false);
  expect(texts()).toEqual([]);
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
