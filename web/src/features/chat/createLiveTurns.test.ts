import { QueryClient } from "@tanstack/react-query";
import { beforeEach, expect, test, vi } from "vitest";
import type { ActivityStream } from "../../stream/activityStream";
import { createLiveTurns } from "./createLiveTurns";
import { readDraft } from "./drafts";
import { enqueue, readQueue } from "./queue";

const stored = new Map<string, string>();
const asked: { request_id: string; messages: { content: string }[] }[] = [];

const answer = (body: unknown, status = 200) => Promise.resolve(new Response(JSON.stringify(body), { status }));

/** A server that has an empty conversation and takes in no message. */
function refusing(path: string, { body }: RequestInit = {}): Promise<Response> {
  if (path === "/v1/models") return answer({ object: "list", data: [{ id: "m", object: "model" }] });
  if (path.includes("/messages")) return answer({ object: "list", data: [], has_more: false });
  if (path === "/v1/conversations/conv_1") return answer({ id: "conv_1", object: "conversation", active_leaf: null });
  asked.push(JSON.parse(String(body)));
  return answer({ error: { message: "No.", type: "invalid_request_error", param: null, code: "invalid_request" } }, 400);
}

beforeEach(() => {
  stored.clear();
  asked.length = 0;
  vi.stubGlobal("localStorage", {
    getItem: (key: string) => stored.get(key) ?? null,
    setItem: (key: string, value: string) => void stored.set(key, value),
    removeItem: (key: string) => void stored.delete(key),
  });
  vi.stubGlobal("document", { hidden: false });
  vi.stubGlobal("requestAnimationFrame", (run: () => void) => setTimeout(run));
  vi.stubGlobal("fetch", refusing);
});

async function refused(text: string, requestId?: string) {
  const liveTurns = createLiveTurns(new QueryClient(), { isOpen: true } as ActivityStream);
  liveTurns.send("conv_1", text, undefined, requestId);
  await vi.waitFor(() => expect(liveTurns.get("conv_1")?.phase).toBe("refused"));
  return liveTurns;
}

test("a message that is refused is kept as a draft", async () => {
  await refused("Hello?");
  expect(readDraft("conv_1")).toBe("Hello?");
});

test("one that was queued stays first in the queue, under its request id, and in no draft", async () => {
  enqueue("conv_1", "first");
  enqueue("conv_1", "second");
  const before = readQueue("conv_1");
  const liveTurns = await refused("first", before[0]!.requestId);
  expect(readQueue("conv_1")).toEqual(before);
  expect(readDraft("conv_1")).toBe("");
  liveTurns.retry("conv_1");
  await vi.waitFor(() => expect(asked).toHaveLength(2));
  expect(asked.map(({ request_id }) => request_id)).toEqual([before[0]!.requestId, before[0]!.requestId]);
});
